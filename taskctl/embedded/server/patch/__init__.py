"""patch: the charter is to be written."""
