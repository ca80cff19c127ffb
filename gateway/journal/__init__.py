"""Journals: where intents are kept that no primary keeps for itself, and what writes them."""
