"""Templates of plugins, and what writes them under another name."""
