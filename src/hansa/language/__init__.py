"""The language: typed computations, written in Python and recorded as graphs."""
