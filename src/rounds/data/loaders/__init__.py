"""Loaders: read each supported data layout into a `RetrievalDataset`."""
