"""SQLite backend: one file, a write-ahead log, several processes."""
