"""http: the charter is to be written."""
