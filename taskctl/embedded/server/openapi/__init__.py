"""openapi: the charter is to be written."""
