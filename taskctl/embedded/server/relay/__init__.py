"""relay: the charter is to be written."""
