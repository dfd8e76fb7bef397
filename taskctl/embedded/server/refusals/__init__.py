"""refusals: the charter is to be written."""
