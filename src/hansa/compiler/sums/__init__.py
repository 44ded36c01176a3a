"""Sums of floats that no order can change: each is the exact sum, rounded once."""
