"""Small PyTorch modules of the kinds that people train, with batches and losses: the zoo of the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

CROSS_ENTROPY = nn.CrossEntropyLoss()


@dataclass(frozen=True)
class Animal:
    """A module of the zoo.

    Attributes:
        make: makes the module.
        batch: from a number of examples to a batch.
        loss: its loss, or None.
        forward: in place of the loss.
        rate: the learning rate: small where a batch normalisation of few examples makes much of the last bits.
        predict: in inference, from the module and x to the predictions, if it is not a call.
    """

    make: Callable[[], nn.Module]
    batch: Callable[[int], dict[str, Any]]
    loss: Any = CROSS_ENTROPY
    forward: Any = None
    rate: float = 0.1
    predict: Any = None


def images(*shape: int, classes: int = 10) -> Callable[[int], dict[str, Any]]:
    def batch(n: int) -> dict[str, Any]:
        rng = np.random.default_rng(n)
        return {"x": rng.normal(size=(n, *shape)).astype("float32"), "y": rng.integers(0, classes, n)}

    return batch


def tokens(n: int) -> dict[str, Any]:
    rng = np.random.default_rng(n)
    return {"x": rng.integers(0, 50, (n, 12)), "y": rng.integers(0, 10, n)}


def next_tokens(n: int) -> dict[str, Any]:
    whole = np.random.default_rng(n).integers(0, 50, (n, 13))
    return {"x": whole[:, :-1], "y": whole[:, 1:]}


def itself(*shape: int) -> Callable[[int], dict[str, Any]]:
    def batch(n: int) -> dict[str, Any]:
        x = np.random.default_rng(n).uniform(size=(n, *shape)).astype("float32")
        return {"x": x, "y": x}

    return batch


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(12, 10),
    )  # fmt: skip


class Recurrent(nn.Module):
    """An embedding, a recurrent layer, and a label for each step."""

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 8, padding_idx=0)
        self.rnn = getattr(nn, kind)(8, 12, batch_first=True, **options)
        self.fc = nn.Linear(12 * (2 if options.get("bidirectional") else 1), 50)

    def forward(self, x: Any) -> Any:
        return self.fc(self.rnn(self.embedding(x))[0]).transpose(1, 2)


class Encoder(nn.Module):
    """A TransformerEncoder with padding that is masked."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(50, 16), nn.Parameter(torch.randn(12, 16) * 0.02)
        layer = nn.TransformerEncoderLayer(16, 2, 24, 0.0, **{"batch_first": True, **options})
        self.encoder, self.fc = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        found = self.encoder(self.embedding(x) + self.position, src_key_padding_mask=x == 0)
        return self.fc(found.mean(1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.attention = nn.Embedding(50, 16), nn.MultiheadAttention(16, 4, batch_first=True)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        e = self.embedding(x)
        return self.fc(self.attention(e, e, e)[0].mean(1))


class Block(nn.Module):
    """A residual block."""

    def __init__(self, i: int, o: int, stride: int, norm: Any) -> None:
        super().__init__()
        self.conv1, self.n1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), norm(o)
        self.conv2, self.n2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), norm(o)
        same = stride == 1 and i == o
        self.down = nn.Identity() if same else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), norm(o))

    def forward(self, x: Any) -> Any:
        return F.relu(self.n2(self.conv2(F.relu(self.n1(self.conv1(x)), inplace=True))) + self.down(x), inplace=True)


class ResNet(nn.Module):
    """ResNets with the stem of torchvision's (`large`), or of CIFAR's."""

    def __init__(self, widths: list[int], blocks: int, norm: Any = nn.BatchNorm2d, large: bool = False) -> None:
        super().__init__()
        first = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False) if large else nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        pool = [nn.MaxPool2d(3, 2, 1)] if large else []
        self.stem = nn.Sequential(first, norm(widths[0]), nn.ReLU(inplace=True), *pool)
        layers, last = [], widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                layers.append(Block(last, width, 2 if stage and not block else 1, norm))
                last = width
        self.blocks, self.pool, self.fc = nn.Sequential(*layers), nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(last, 10)

    def forward(self, x: Any) -> Any:
        return self.fc(torch.flatten(self.pool(self.blocks(self.stem(x))), 1))


class SqueezeExcite(nn.Module):
    def __init__(self, c: int, r: int, act: Any, gate: Any) -> None:
        super().__init__()
        self.pool, self.fc1, self.fc2 = nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, r, 1), nn.Conv2d(r, c, 1)
        self.act, self.gate = act(), gate()

    def forward(self, x: Any) -> Any:
        return x * self.gate(self.fc2(self.act(self.fc1(self.pool(x)))))


class Inverted(nn.Module):
    """The inverted residual block of MobileNetV3 and EfficientNet."""

    def __init__(self, i: int, wide: int, o: int, kernel: int, stride: int, act: Any, gate: Any) -> None:
        super().__init__()
        self.same = stride == 1 and i == o
        self.layers = nn.Sequential(
            nn.Conv2d(i, wide, 1, bias=False), nn.BatchNorm2d(wide), act(),
            nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False), nn.BatchNorm2d(wide), act(),
            SqueezeExcite(wide, 4, nn.ReLU, gate), nn.Conv2d(wide, o, 1, bias=False), nn.BatchNorm2d(o),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return x + self.layers(x) if self.same else self.layers(x)


def mobilenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish(),
        Inverted(8, 16, 8, 3, 1, nn.ReLU, nn.Hardsigmoid), Inverted(8, 24, 12, 5, 2, nn.Hardswish, nn.Hardsigmoid),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 16), nn.Hardswish(), nn.Dropout(0.0), nn.Linear(16, 10),
    )  # fmt: skip


def efficientnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU(),
        Inverted(8, 16, 8, 3, 1, nn.SiLU, nn.Sigmoid), Inverted(8, 24, 12, 5, 2, nn.SiLU, nn.Sigmoid),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10),
    )  # fmt: skip


class ViT(nn.Module):
    """A vision transformer with a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.token, self.position = nn.Parameter(torch.zeros(1, 1, 16)), nn.Parameter(torch.randn(1, 17, 16) * 0.02)
        layer = nn.TransformerEncoderLayer(16, 2, 24, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        patches = self.patch(x).flatten(2).transpose(1, 2)
        found = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], 1) + self.position
        return self.head(self.norm(self.encoder(found))[:, 0])


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depth = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.norm, self.wide, self.narrow = nn.LayerNorm(8), nn.Linear(8, 32), nn.Linear(32, 8)
        self.scale, self.head = nn.Parameter(torch.full((8,), 0.1)), nn.Linear(8, 10)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        y = self.narrow(F.gelu(self.wide(self.norm(self.depth(x).permute(0, 2, 3, 1)))))
        x = x + (self.scale * y).permute(0, 3, 1, 2)
        return self.head(x.mean((2, 3)))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.up, self.c, self.out = nn.ConvTranspose2d(8, 6, 2, 2), nn.Conv2d(12, 6, 3, padding=1), nn.Conv2d(6, 3, 1)

    def forward(self, x: Any) -> Any:
        a = F.relu(self.a(x))
        b = F.relu(self.b(F.max_pool2d(a, 2)))
        up = F.interpolate(self.up(b), size=a.shape[2:], mode="bilinear", align_corners=False)
        return self.out(F.relu(self.c(torch.cat([a, up], 1))))


class VAE(nn.Module):
    """A variational autoencoder; the noise is zero, so that it can be compared."""

    def __init__(self) -> None:
        super().__init__()
        self.enc, self.mu, self.log_var = nn.Linear(20, 16), nn.Linear(16, 4), nn.Linear(16, 4)
        self.dec = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 20))

    def forward(self, x: Any) -> Any:
        h = F.relu(self.enc(x))
        mu, log_var = self.mu(h), self.log_var(h)
        z = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu) * 0
        return self.dec(z), mu, log_var


def vae_loss(found: Any, x: Any) -> Any:
    decoded, mu, log_var = found
    kl = -0.5 * (1 + log_var - mu**2 - log_var.exp()).sum(1).mean()
    return F.binary_cross_entropy_with_logits(decoded, x, reduction="sum") / x.shape[0] + kl


class GPT(nn.Module):
    """Causal attention, with the weights of the embedding tied to those of the head."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(50, width), nn.Embedding(16, width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ln, self.heads = nn.LayerNorm(width), heads
        self.head = nn.Linear(width, 50, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, x: Any) -> Any:
        b, t = x.shape
        h = self.wte(x) * 0.1 + self.wpe(torch.arange(t, device=x.device))
        q, k, v = (p.view(b, t, self.heads, -1).transpose(1, 2) for p in self.qkv(self.ln(h)).chunk(3, -1))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(h + self.out(a.transpose(1, 2).reshape(b, t, -1))).transpose(1, 2)


class Two(nn.Module):
    """Two inputs, and two results."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 8), nn.Linear(4, 8), nn.Linear(8, 10)

    def forward(self, left: Any, right: Any) -> Any:
        h = torch.tanh(self.a(left) + self.b(right))
        return {"scores": self.head(h), "size": h.norm(dim=1)}


def two_inputs(n: int) -> dict[str, Any]:
    rng = np.random.default_rng(n)
    x = {"left": rng.normal(size=(n, 6)).astype("float32"), "right": rng.normal(size=(n, 4)).astype("float32")}
    return {"x": x, "y": rng.integers(0, 10, n)}


def two_losses(module: Any, batch: Any) -> Any:
    found = module(**batch["x"])
    return F.cross_entropy(found["scores"], batch["y"]) + 0.01 * found["size"].mean(), found


def frozen(module: Any) -> nn.Module:
    for parameter in module[1].parameters():
        parameter.requires_grad_(False)
    return module


def transposed() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, groups=3), nn.Hardswish(), nn.ConvTranspose2d(6, 6, 3, 2, 1, 1, groups=2), nn.ELU(),
        nn.AvgPool2d(2), nn.InstanceNorm2d(6, affine=True), nn.Flatten(), nn.Linear(6 * 144, 10),
    )  # fmt: skip


class Mean(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.mean(1)


def groups(c: int) -> nn.Module:
    return nn.GroupNorm(2, c)


QUICK = ("cnn", "rnn")
SLOW = ("mlp", "lstm", "encoder", "gpt_tied", "resnet_groups")
"""Those of `make test` and of `make test-slow`; `make test-all` has all."""
ZOO: dict[str, Animal] = {
    "mlp": Animal(mlp, images(64)),
    "cnn": Animal(cnn, images(3, 8, 8)),
    "lstm": Animal(lambda: Recurrent("LSTM", num_layers=2), next_tokens),
    "encoder": Animal(Encoder, tokens),
    "gru": Animal(lambda: Recurrent("GRU", bidirectional=True), next_tokens),
    "rnn": Animal(lambda: Recurrent("RNN"), next_tokens),
    "embedding": Animal(lambda: nn.Sequential(nn.Embedding(50, 16), Mean(), nn.Linear(16, 10)), tokens),
    "attention": Animal(Attention, tokens),
    "encoder_norm_first": Animal(lambda: Encoder(norm_first=True, activation="gelu"), tokens),
    "gpt_tied": Animal(GPT, next_tokens),
    "resnet_groups": Animal(lambda: ResNet([8, 12], 1, groups), images(3, 12, 12)),
    "resnet_large": Animal(lambda: ResNet([8, 12, 16], 2, large=True), images(3, 32, 32), rate=0.001),
    "mobilenet": Animal(mobilenet, images(3, 16, 16), rate=0.001),
    "efficientnet": Animal(efficientnet, images(3, 16, 16), rate=0.001),
    "vit": Animal(ViT, images(3, 16, 16)),
    "convnext": Animal(ConvNeXt, images(3, 16, 16)),
    "unet": Animal(UNet, itself(3, 8, 8), F.mse_loss),
    "vae": Animal(VAE, itself(20), vae_loss),
    "autoencoder": Animal(lambda: nn.Sequential(nn.Linear(20, 8), nn.SiLU(), nn.Linear(8, 20)), itself(20), F.mse_loss),
    "transposed": Animal(transposed, images(3, 14, 14)),
    "two_inputs": Animal(Two, two_inputs, None, two_losses),
    "frozen": Animal(lambda: frozen(mlp()), images(64), nn.CrossEntropyLoss(label_smoothing=0.1)),
    "weighted": Animal(mlp, images(64), nn.CrossEntropyLoss(weight=torch.linspace(0.5, 2, 10))),
}
