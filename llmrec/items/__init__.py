"""Vectors of items from their texts and events, and semantic IDs: a few codes for each item."""
