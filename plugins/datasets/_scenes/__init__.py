"""Procedural scenes with exact labels: the renderer behind `streets` and `rooms`."""
