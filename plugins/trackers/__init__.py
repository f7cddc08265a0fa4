"""Tracker plugins: what a run shows and records."""
