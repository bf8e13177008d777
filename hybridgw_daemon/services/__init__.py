"""What the daemon does, free of carriers: services open transactions and publish events."""
