"""What `mtlkit affinity` does: try a step on each edge, measure every task, go back."""
