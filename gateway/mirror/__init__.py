"""Mirrors: bringing what the primary committed to the other store, and repairing what was left out."""
