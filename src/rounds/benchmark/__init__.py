"""Benchmarks: the same work by Rounds and by peer libraries, and the GPU check."""
