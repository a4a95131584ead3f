"""What runs a language model: token ids in, hidden states and log-probabilities out."""
