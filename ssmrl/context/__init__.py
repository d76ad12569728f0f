"""Adaptation by memory: an inference model that watches, and a policy that acts on its estimate."""
