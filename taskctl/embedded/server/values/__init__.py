"""values: the charter is to be written."""
