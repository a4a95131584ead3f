"""Serving a bundle to many people at once."""
