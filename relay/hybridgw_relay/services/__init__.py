"""What the relay does: batches, devices, mailboxes, accounts, clearing up."""
