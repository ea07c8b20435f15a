"""Soundproof against its peers and against the limit: `make speed`, or `python -m benchmarks.speed --help`."""
