"""Reranking: candidate features, fusion, cross-encoder training and cross-validation."""
