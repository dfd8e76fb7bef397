"""schema: the charter is to be written."""
