"""Files that start clusters, and the rules that they must satisfy."""
