"""Folders and files that are complete or absent, with manifests, digests and locks."""
