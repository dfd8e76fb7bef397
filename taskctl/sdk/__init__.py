"""The helper library for Python code inside a task.

The standard library and the wire codec only: this is imported in every task."""
