"""The folder of a run: its path, its owner process, and an orderly end when that is stopped."""
