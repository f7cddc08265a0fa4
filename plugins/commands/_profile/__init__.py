"""What `mtlkit profile` does."""
