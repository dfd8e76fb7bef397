"""pods: the charter is to be written."""
