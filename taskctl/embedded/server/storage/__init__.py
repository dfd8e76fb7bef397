"""storage: the charter is to be written."""
