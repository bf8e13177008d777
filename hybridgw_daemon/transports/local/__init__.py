"""The local API over loopback: one command table behind HTTP."""
