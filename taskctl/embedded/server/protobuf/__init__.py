"""protobuf: the charter is to be written."""
