"""Tests of taskctl.embedded.server, all but the schema half."""
