"""Recommending in words: a model writes titles of the catalogue, or anything, which is then looked up."""
