"""Experiments: from a specification to records, resumable, with victims that are trained once."""
