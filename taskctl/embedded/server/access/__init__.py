"""access: the charter is to be written."""
