"""What a sweep wrote down: rows, rounds and records, each added to and never rewritten."""
