"""Quantisers: from item vectors to a few codes each, by one contract (`items.quantise.contract`)."""
