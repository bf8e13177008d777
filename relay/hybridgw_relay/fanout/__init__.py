"""Waking other connections of a space: a hint that something is new, never the data."""
