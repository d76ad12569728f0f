"""Real sweeps in which things go wrong on purpose, by a list that is drawn from a seed."""
