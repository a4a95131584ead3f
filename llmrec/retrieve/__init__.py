"""Ranking of the whole catalogue from query vectors, filters included."""
