"""apply: the charter is to be written."""
