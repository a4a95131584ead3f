"""Contract of all recommenders, filters, and (later) the trie and its beam."""
