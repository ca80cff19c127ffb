"""Public helpers for SQL backends.

`statements` and `filters` make SQL text from kinds and need nothing but the standard library, so that opening
a store stays quick. `tables`, `schema` and the Alembic environment need the `sqlite` extra; import them where
they are used.
"""
