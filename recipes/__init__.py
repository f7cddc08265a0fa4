"""The recipes that ship with mtlkit; this file makes the folder a package, so that they install."""
