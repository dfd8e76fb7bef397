"""tables: the charter is to be written."""
