"""The ``ssmrl`` command: a porch above all rooms; it enters each only when it is asked to."""
