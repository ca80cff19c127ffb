"""A cache in front of the stores: never a store of record, never stale, and never in anybody's way."""
