"""Draws averaging.svg: python docs/images/averaging.py"""

from collections import OrderedDict
from pathlib import Path

import numpy as np

import hansa

PICTURE = Path(__file__).with_suffix(".svg")


def model_fn():
    import keras  # after Hansa, which chooses JAX for it

    layers = keras.layers
    hidden = layers.Dense(512, activation="relu", name="hidden")
    model = keras.Sequential([layers.Input((784,)), hidden, layers.Dense(10, activation="softmax", name="digit")])
    model.compile(keras.optimizers.SGD(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
    batch = OrderedDict(x=np.zeros((1, 784), np.float32), y=np.zeros((1, 1), np.int32))
    return hansa.learning.from_compiled_keras_model(model, batch)


def explanation():
    return hansa.explain(hansa.learning.build_federated_averaging_process(model_fn))


if __name__ == "__main__":
    print(explanation().save(PICTURE))
