"""Which channels of a model hang together: no weights, no training, no files."""
