"""The folder of a run: who works in it, and how that ends in order."""
