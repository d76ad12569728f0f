"""The claims of the README, one file each: benchmarks, figures and tables."""
