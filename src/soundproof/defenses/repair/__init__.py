"""Repairs: they turn a suspect network into one without its backdoor, from a few clean clips."""
