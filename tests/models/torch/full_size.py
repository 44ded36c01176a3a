"""EfficientNet-B0 and ConvNeXt-T at their full sizes, written out."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class StochasticDepth(nn.Module):
    """Leaves out the branch of some examples (Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Any) -> Any:
        if not self.training or self.rate == 0:
            return x
        kept = torch.empty([x.shape[0]] + [1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
        return x * kept.bernoulli_(1 - self.rate).div_(1 - self.rate)


def convolved(i: int, o: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, *([nn.SiLU(inplace=True)] if act else []))


class Excited(nn.Module):
    """Squeeze and excitation (Hu et al. 2018)."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool, self.activation, self.scale = nn.AdaptiveAvgPool2d(1), nn.SiLU(inplace=True), nn.Sigmoid()
        self.fc1, self.fc2 = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)

    def forward(self, x: Any) -> Any:
        return self.scale(self.fc2(self.activation(self.fc1(self.avgpool(x))))) * x


class MBConv(nn.Module):
    def __init__(self, i: int, o: int, kernel: int, stride: int, ratio: int, depth: float) -> None:
        super().__init__()
        wide = i * ratio
        self.same = stride == 1 and i == o
        self.block = nn.Sequential(
            *([convolved(i, wide, 1)] if ratio > 1 else []),
            convolved(wide, wide, kernel, stride, groups=wide),
            Excited(wide, max(1, i // 4)),
            convolved(wide, o, 1, act=False),
        )
        self.stochastic_depth = StochasticDepth(depth)

    def forward(self, x: Any) -> Any:
        return self.stochastic_depth(self.block(x)) + x if self.same else self.block(x)


class EfficientNetB0(nn.Module):
    """EfficientNet-B0 (Tan and Le 2019, table 1): 5,288,548 weights."""

    # ratio, kernel, stride, width, layers
    STAGES = (
        (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    )  # fmt: skip

    def __init__(self, depth: float = 0.2, dropout: float = 0.2) -> None:
        super().__init__()
        blocks, last, count = [], 32, sum(stage[-1] for stage in self.STAGES)
        for ratio, kernel, stride, width, layers in self.STAGES:
            for layer in range(layers):
                share = depth * len(blocks) / count
                blocks.append(MBConv(last, width, kernel, stride if layer == 0 else 1, ratio, share))
                last = width
        self.features = nn.Sequential(convolved(3, 32, 3, 2), *blocks, convolved(last, 1280, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(dropout, inplace=True), nn.Linear(1280, 1000))

    def forward(self, x: Any) -> Any:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Any) -> Any:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Permute(nn.Module):
    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Any) -> Any:
        return torch.permute(x, self.axes)


class CNBlock(nn.Module):
    def __init__(self, width: int, depth: float) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width), Permute(0, 2, 3, 1), nn.LayerNorm(width, eps=1e-6),
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), Permute(0, 3, 1, 2),
        )  # fmt: skip
        self.layer_scale = nn.Parameter(torch.ones(width, 1, 1) * 1e-6)
        self.stochastic_depth = StochasticDepth(depth)

    def forward(self, x: Any) -> Any:
        return self.stochastic_depth(self.layer_scale * self.block(x)) + x


class ConvNeXtTiny(nn.Module):
    """ConvNeXt-T (Liu et al. 2022): 28,589,128 weights."""

    WIDTHS, DEPTHS = (96, 192, 384, 768), (3, 3, 9, 3)

    def __init__(self, depth: float = 0.1) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), LayerNorm2d(96, eps=1e-6)]
        number = 0
        for stage, (width, blocks) in enumerate(zip(self.WIDTHS, self.DEPTHS, strict=True)):
            if stage:
                last = self.WIDTHS[stage - 1]
                layers += [LayerNorm2d(last, eps=1e-6), nn.Conv2d(last, width, 2, 2)]
            for _ in range(blocks):
                layers.append(CNBlock(width, depth * number / (sum(self.DEPTHS) - 1)))
                number += 1
        self.features, self.avgpool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(LayerNorm2d(768, eps=1e-6), nn.Flatten(1), nn.Linear(768, 1000))

    def forward(self, x: Any) -> Any:
        return self.classifier(self.avgpool(self.features(x)))
