"""Search spaces: their ranges, and the YAML files that describe them."""
