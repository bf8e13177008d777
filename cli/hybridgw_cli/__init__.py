"""The command line: speaks the local API, imports neither server."""
