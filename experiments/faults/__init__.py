"""Real sweeps with injected faults, whose list is drawn from a seed."""
