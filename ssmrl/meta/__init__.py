"""Meta-learning: inner adaptation, surrogate losses and outer update."""
