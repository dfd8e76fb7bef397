"""cel: the charter is to be written."""
