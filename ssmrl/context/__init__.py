"""Adaptation by memory: a model infers the hidden task, and a policy acts on its estimate."""
