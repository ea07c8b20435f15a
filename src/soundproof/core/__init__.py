"""What everything stands on: components, names, seeds, errors, files. Knows nothing of audio."""
