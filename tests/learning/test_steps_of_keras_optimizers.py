"""Steps of Keras optimizers that are not the same each time are refused, for they are compiled once."""

import numpy as np
import pytest
from keras import ops, optimizers

from tests.learning.test_keras_optimizers import Near, after_a_round, make_model

rng = np.random.default_rng(0)


class CountsInPython(optimizers.SGD):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.steps = 0

    def update_step(self, gradient, variable, learning_rate):
        self.steps += 1
        super().update_step(gradient, variable, learning_rate / self.steps)


class KeepsArrays(optimizers.SGD):
    def build(self, variables):
        super().build(variables)
        self.momenta = [ops.zeros(variable.shape) for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        i = self._get_variable_index(variable)
        self.momenta[i] = 0.9 * self.momenta[i] + gradient
        super().update_step(self.momenta[i], variable, learning_rate)


class NearNumbers(Near):
    def start(self, variable):
        return variable.numpy()


class CountsInADict(optimizers.SGD):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.counts = {"steps": 0}

    def update_step(self, gradient, variable, learning_rate):
        self.counts["steps"] += 1
        super().update_step(gradient, variable, learning_rate / self.counts["steps"])


class CountsInAList(optimizers.SGD):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.seen = []

    def update_step(self, gradient, variable, learning_rate):
        self.seen.append(variable.path)
        super().update_step(gradient, variable, learning_rate / len(self.seen))


class DrawsInNumPy(optimizers.SGD):
    def update_step(self, gradient, variable, learning_rate):
        noise = rng.normal(size=gradient.shape).astype("float32")
        super().update_step(gradient + noise, variable, learning_rate)


class Falling:
    """A learning rate that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, *step):
        self.calls += 1
        return 0.1 / self.calls


class FallingSchedule(Falling, optimizers.schedules.LearningRateSchedule):
    pass


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (CountsInPython, "CountsInPython changes its attribute 'steps' in a step.*self.steps = self.add_variable"),
        (CountsInADict, "CountsInADict changes its attribute 'counts' in a step"),
        (CountsInAList, "CountsInAList takes another step when it is called again.*LearningRateSchedule of the step"),
        (DrawsInNumPy, "DrawsInNumPy takes another step when it is called again.*draw with keras.random"),
        (lambda rate: optimizers.SGD(Falling()), "SGD takes another step when it is called again"),
        (lambda rate: optimizers.SGD(FallingSchedule()), "SGD takes another step when it is called again"),
        (KeepsArrays, "KeepsArrays changes its attribute 'momenta' in a step"),
        (NearNumbers, "NearNumbers makes other variables of other weights, and takes them as NumPy.*keras.ops.copy"),
    ],
)
def test_what_a_compiled_step_cannot_do_is_refused(optimizer, message):
    model = make_model()
    model.compile(optimizer(0.1), "mse")
    with pytest.raises(TypeError, match=message):
        after_a_round(model)
