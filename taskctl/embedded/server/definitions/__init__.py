"""definitions: the charter is to be written."""
