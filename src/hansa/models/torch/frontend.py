"""What `hansa.learning` has for PyTorch. PyTorch is imported when one of these is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hansa._extras import require
from hansa.models._typing import AnyOptimizer
from hansa.models.metrics import MetricSums
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.weights import ModelWeights
from hansa.types._typing import Arrays

if TYPE_CHECKING:
    import torch


def from_torch(
    module: torch.nn.Module,
    sample_batch: Arrays,
    *,
    loss: Callable[..., Any] | None = None,
    metrics: Mapping[str, Any] | MetricSums | None = None,
    optimizer: torch.optim.Optimizer | AnyOptimizer | None = None,
    learning_rate: LearningRate | None = None,
    forward: Callable[[torch.nn.Module, Any], Any] | None = None,
    name: str | None = None,
) -> FunctionalModel:
    """A PyTorch module, with its loss, as a model to learn.

    `torch.export` makes a graph of it, once in training and once in inference, and JAX evaluates and differentiates
    these: no PyTorch runs in a round, and none of the code of `forward`. Parameters that need no gradient are frozen;
    these and the buffers of the `state_dict` are non-trainable weights. Weights have the names of the `state_dict`;
    tied ones are one weight. The module is not changed, and the weights that it has are the initial ones.

    Args:
        module: the module. One in training (`module.train()`, as it is when it is made) is trained as it is, with the
            submodules in inference that `eval()` was called on; another one as `train()` makes it.
        sample_batch: a batch as the clients have them, a mapping with `x` and `y` or a pair of them; only its types
            count. A tensor x is passed as `module(x)`, a tuple as `module(*x)`, a mapping as `module(**x)`. Integers of
            32 bits reach the module as PyTorch's int64, in which it has labels and indices.
        loss: `loss(module(x), y)` gives a scalar: one of `torch.nn`, or a function of tensors.
        metrics: as in `functional_model`: by name, functions of JAX arrays, `Metric`s or Keras metric objects.
        optimizer: the clients' optimizer: one of `torch.optim`, made of the module's parameters, with a state that
            starts anew with each client; or one of Optax or Keras, or a name, such as "sgd".
        learning_rate: that of an optimizer by name.
        forward: in place of `loss`: `forward(module, batch)` gives the pair (loss, predictions), of a batch of tensors
            in a dict, or in a tuple if its fields have no names. Its argument is the module that is trained; what it
            takes of other modules, such as of a teacher, is constant.
        name: what messages call the model; by default the name of the module's class.

    Returns:
        The model. `state.model.assign_weights_to(module)` writes the weights of a state back.

    Raises:
        ModuleNotFoundError: if PyTorch is not installed.
        TypeError, ValueError: if an argument is not what is said above; if the module cannot be made a graph of, since
            its Python asks for the values of tensors; or if it has operations that Hansa has not. All that are missing
            are named at once, with the submodule and the line.

    Examples:
        >>> import torch
        >>> module = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
        >>> model = hansa.learning.from_torch(
        ...     module,
        ...     sample_batch={"x": x, "y": y},
        ...     loss=torch.nn.CrossEntropyLoss(),
        ...     metrics={"accuracy": lambda labels, scores, sample_weight: scores.argmax(-1) == labels},
        ...     optimizer=torch.optim.SGD(module.parameters(), lr=0.1),
        ... )
        >>> process = hansa.learning.build_federated_averaging_process(model)
        >>> state = process.initialize()
        >>> state.model.trainable["0.weight"].shape
        (32, 64)
        >>> state.model.assign_weights_to(module)
    """
    require("torch", "torch", "hansa.learning.from_torch")
    from hansa.models.torch.models import model_of_module

    return model_of_module(
        module,
        sample_batch,
        loss=loss,
        metrics=metrics,
        optimizer=optimizer,
        learning_rate=learning_rate,
        forward=forward,
        name=name,
    )


def state_dict(weights: ModelWeights, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights as PyTorch has them: the `state_dict` of a module, with tied weights under each of their names.

    Args:
        weights: such as `state.model` of a process that trains a model of `from_torch`.
        module: a module of the same architecture; it stays as it is.

    Returns:
        New tensors on the CPU, by name, in the dtypes and the order of `module.state_dict()`.

    Raises:
        ModuleNotFoundError: if PyTorch is not installed.
        TypeError: if `module` is no PyTorch module.
        ValueError: if it is another module than that of the weights.

    Examples:
        >>> import torch
        >>> module = torch.nn.Linear(64, 10)
        >>> model = hansa.learning.from_torch(
        ...     module, {"x": x, "y": y}, loss=torch.nn.CrossEntropyLoss(), optimizer="sgd", learning_rate=0.1
        ... )
        >>> state = hansa.learning.build_federated_averaging_process(model).initialize()
        >>> [*hansa.learning.state_dict(state.model, module)]
        ['weight', 'bias']
    """
    require("torch", "torch", "hansa.learning.state_dict")
    from hansa.models.torch import weights as of_torch

    return of_torch.state_dict(weights, module)
