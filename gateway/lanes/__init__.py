"""Lanes: one for the writes of each store, and what becomes of them."""
