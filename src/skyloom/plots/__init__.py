"""Functions that return a matplotlib figure; nothing is shown."""
