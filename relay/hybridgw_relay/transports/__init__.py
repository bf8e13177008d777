"""The relay's WebSocket and HTTP."""
