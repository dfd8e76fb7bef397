"""controllers: the charter is to be written."""
