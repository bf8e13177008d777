"""What only devices know, pure and synchronous: clock, operations, merge, sealing, keys."""
