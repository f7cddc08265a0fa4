"""What `mtlkit doctor` does: take a few steps, keep what they show, say what is wrong."""
