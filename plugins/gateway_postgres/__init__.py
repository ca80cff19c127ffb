"""PostgreSQL backend: one server for a fleet of bots, with row security for tenants."""
