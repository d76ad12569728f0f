"""Meta-learning: the inner adaptation, the surrogates and the outer update."""
