"""Benchmarks: published grids on real speech, and timings against peers."""
