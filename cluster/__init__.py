"""Ray: meta-learning as an RLlib algorithm, its actors, and the session they live in."""
