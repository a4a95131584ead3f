"""The systems that ours is compared with, on the same Recommender contract."""
