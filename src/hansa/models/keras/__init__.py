"""Models, metrics and optimizers of Keras as pure functions, whichever backend Keras has."""
