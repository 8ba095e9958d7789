"""Retrieval: runs, exact and approximate search, BM25 and late interaction."""
