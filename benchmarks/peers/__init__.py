"""Hansa's rounds beside those of other frameworks; `python -m benchmarks.peers`."""
