"""strategies: the charter is to be written."""
