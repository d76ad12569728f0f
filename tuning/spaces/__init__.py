"""What is searched: ranges, spaces, and the files that describe them."""
