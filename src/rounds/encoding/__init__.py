"""Encoding: texts to vectors, with batching, shared prefixes, worker processes and cached runs."""
