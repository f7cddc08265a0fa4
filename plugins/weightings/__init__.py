"""Weighting plugins: how the task losses become one update."""
