"""Benchmarks: each figure beside the raw limit of the same machine, measured in the same run. `make bench`."""
