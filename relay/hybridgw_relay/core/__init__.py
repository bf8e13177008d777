"""Pure rules of the relay: quotas and retention."""
