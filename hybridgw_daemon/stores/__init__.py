"""The daemon's SQL: modules of functions that take the open transaction."""
