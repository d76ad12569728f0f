"""Rollouts: from parameters and tasks to trajectories and returns."""
