"""Training sets, collation, losses and loops."""
