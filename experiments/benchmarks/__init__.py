"""Speed against peers and against the floor, side by side in one process."""
