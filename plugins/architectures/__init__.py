"""Architecture plugins: image to one prediction per task."""
