"""Commands that plugins add to the command line (entry-point group mtlkit.commands)."""
