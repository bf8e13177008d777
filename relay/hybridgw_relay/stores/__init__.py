"""The relay's SQL: modules of functions that take the open transaction."""
