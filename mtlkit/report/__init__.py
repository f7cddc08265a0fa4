"""What people look at: explanations, tables, pictures and curves."""
