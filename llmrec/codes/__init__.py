"""A language model that writes the codes of items: its bundle, how it is made, and how it recommends."""
