"""requests: the charter is to be written."""
