"""Task plugins: what is predicted, its loss and its metrics."""
