"""Encoder plugins: image to feature maps."""
