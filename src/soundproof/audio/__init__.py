"""Recordings: reading and writing files, resampling, features."""
