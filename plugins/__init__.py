"""The plugins that ship with mtlkit: every module below this package is loaded as one plugin."""
