"""Networks of full size, on smaller images, say what they say in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hansa.learning import build_prediction, from_torch
from tests.models.torch.full_size import ConvNeXtTiny, EfficientNetB0


@pytest.mark.whole
@pytest.mark.parametrize(
    ("make", "count"),
    [
        pytest.param(EfficientNetB0, 5_288_548, id="efficientnet_b0"),
        pytest.param(ConvNeXtTiny, 28_589_128, id="convnext_tiny"),
    ],
)
def test_inference(make, count):
    torch.manual_seed(0)
    module = make()
    assert sum(parameter.numel() for parameter in module.parameters()) == count
    for name, buffer in module.named_buffers():  # statistics as after some training
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    rng = np.random.default_rng(0)
    batch = {"x": rng.normal(size=(4, 3, 64, 64)).astype("float32"), "y": rng.integers(0, 1000, 4)}
    sgd = torch.optim.SGD(module.parameters(), lr=0.01)
    model = from_torch(module, batch, loss=torch.nn.CrossEntropyLoss(), optimizer=sgd)
    said = np.asarray(build_prediction(model, model.initial_weights)(batch["x"]))
    with torch.no_grad():
        expected = module.eval()(torch.tensor(batch["x"])).numpy()
    np.testing.assert_allclose(said, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
