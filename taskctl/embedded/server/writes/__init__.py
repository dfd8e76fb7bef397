"""writes: the charter is to be written."""
