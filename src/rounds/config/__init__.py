"""Recipes: their schema, defaults, validation and loading."""
