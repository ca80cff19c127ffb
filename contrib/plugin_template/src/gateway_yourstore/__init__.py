"""A backend for storage-gateway, complete and small: the place to begin your own."""
