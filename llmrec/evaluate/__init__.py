"""Metrics, protocols and reports; sees items and lists, never tokens."""
