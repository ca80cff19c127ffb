"""A cache of current records in Redis or Valkey."""
