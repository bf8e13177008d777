"""The relay: stores sealed batches and forwards them; it can read none of them."""
