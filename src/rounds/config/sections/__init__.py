"""Sections of a recipe: each key with its type, bounds, default and description."""
