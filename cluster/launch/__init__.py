"""Files that start clusters, and the rules that they are held to."""
