"""llmrec turns a pretrained language model into the recommender of a catalogue."""

__version__ = "0.1.0"
