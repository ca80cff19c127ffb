"""Divergences: differences between two stores that nothing explains, kept, traced and told of."""
