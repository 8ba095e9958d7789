"""Data: loaders that return a `Task`, the sample generator, and the splits."""
