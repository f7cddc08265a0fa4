"""Edge plugins: transfer networks between tasks and their losses."""
