"""What became of Tasks, kept in files that outlive their objects (docs/history.md)."""
