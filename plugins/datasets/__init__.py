"""Data set plugins: samples with labels."""
