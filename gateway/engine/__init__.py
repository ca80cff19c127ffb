"""The engine: rows in, rows out, along the routes of the moment."""
