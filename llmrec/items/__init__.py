"""Vectors of items from their texts, and (later) quantisers and semantic IDs."""
