"""Models that are JAX functions and pytrees of weights."""
