"""Hyperparameter sweeps: search spaces, searchers, trials, the table of results, reports."""
