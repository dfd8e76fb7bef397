"""kinds: the charter is to be written."""
