"""The in-memory backend: the reference that every other store is held to."""
