"""A peer for tests, in NumPy: federated averaging of softmax regression, with faults on demand.

The option names the fault: `joined` trains one model on all examples, `wrong` has another learning rate, `unsupported`
does not do the task, `fails` raises in round 1, `dies` ends the process there, `sleeps` does not answer there, `prints`
prints as libraries do.
"""

import os
import sys
import time

import numpy as np
from benchmarks.peers.protocol import Unsupported, batches, serve


def probabilities(weights, x):
    logits = x @ weights[0] + weights[1]
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def train(weights, x, y, task, rate):
    total = 0.0
    for some, labels in batches(x, y, task.batch_size):
        shares = probabilities(weights, some)
        rows = np.arange(len(some))
        total += -np.log(shares[rows, labels[:, 0]]).sum()
        shares[rows, labels[:, 0]] -= 1
        gradient = shares / len(some)
        weights = [weights[0] - rate * some.T @ gradient, weights[1] - rate * gradient.sum(0)]
    return weights, total


class Softmax:
    def __init__(self, task, fault=""):
        if fault == "unsupported":
            raise Unsupported("it is too much")
        if fault == "prints":
            print("a line on standard output")
            os.system("echo another one, from a child")
        self.task, self.fault, self.model = task, fault, task.weights

    def round(self, number):
        if number == 1 and self.fault == "fails":
            raise ValueError("a bad round")
        if number == 1 and self.fault == "dies":
            print("out of memory, say", file=sys.stderr)
            os._exit(3)
        if number == 1 and self.fault == "sleeps":
            time.sleep(60)
        task = self.task
        rate = task.learning_rate * (1.1 if self.fault == "wrong" else 1)
        clients = [task.joined(number)] if self.fault == "joined" else map(task.client, task.cohort(number))
        trained = [(len(x), *train(self.model, x, y, task, rate)) for x, y in clients]
        examples = sum(size for size, _, _ in trained)
        self.model = [sum(size / examples * model[i] for size, model, _ in trained) for i in range(2)]
        return float(sum(loss for _, _, loss in trained) / examples)

    def evaluate(self):
        shares = probabilities(self.model, self.task.test_x)
        return -float(np.log(shares[np.arange(len(shares)), self.task.test_y[:, 0]]).mean())

    def weights(self):
        return self.model


if __name__ == "__main__":
    serve(Softmax)
