"""api: the charter is to be written."""
