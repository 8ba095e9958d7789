"""Rounds: hard-negative rounds that turn a general text embedder into a specialist."""

__version__ = "0.1.0"
