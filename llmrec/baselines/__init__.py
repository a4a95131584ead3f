"""Other recommenders on the same contract: the figures to beat."""
