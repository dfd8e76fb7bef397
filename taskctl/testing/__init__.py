"""Public helpers for tests of taskctl and of code built on it."""
