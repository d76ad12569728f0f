"""Task families, and the batched simulations that run their tasks."""
