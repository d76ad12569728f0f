"""Task families and the batched simulations in which they are played."""
