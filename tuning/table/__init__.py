"""The record files of a sweep: rows, rounds and records, append-only."""
