"""Sequence policies: anything that turns a sequence of observations into a sequence of outputs."""
