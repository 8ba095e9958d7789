"""Datasets: loaders, splits, prompt text, lineage and generated samples."""
