"""`python -m mtlkit` is the command `mtlkit`."""

from mtlkit.cli import main

main()
