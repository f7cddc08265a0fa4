"""Plugins that work as they are; `mtlkit new` writes them under another name than `own_plugin`."""
