"""Saved computations: what a file of one holds, how it is written, and how it is read from anybody."""
