"""Sequence policies: models that map a sequence of observations to a sequence of outputs."""
