"""Adaptation of a trained policy or model to a task at test time."""
