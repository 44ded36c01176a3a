"""Models that are TensorFlow functions and variables, as pure functions."""
