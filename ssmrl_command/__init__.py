"""The ``ssmrl`` command, on top of all packages; each is imported only when it is needed."""
