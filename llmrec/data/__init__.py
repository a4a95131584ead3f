"""Catalogue, events, sources, validation, splits and the bundled sample."""
