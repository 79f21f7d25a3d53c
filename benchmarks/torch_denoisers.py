"""The peer: the networks of `kdjax.models.dit` and `kdjax.models.unet`, in plain PyTorch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

HIGHEST = 100.0

Said = tuple[torch.Tensor, torch.Tensor]
"""The raw output and the bottleneck, channels second in both."""


class Conditioning(nn.Module):
    def __init__(self, width: int, classes: int):
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.labels = nn.Embedding(classes + 1, width)
        half = width // 2
        self.register_buffer('rates', torch.tensor([HIGHEST ** (i / (half - 1)) for i in range(half)]))

    def forward(self, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        angles = t[:, None] * self.rates
        told = self.second(F.silu(self.first(torch.cat([angles.cos(), angles.sin()], dim=1))))
        return told + math.sqrt(told.shape[1]) * self.labels(label)


class TokenBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(F.silu(told))[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.attention((1 + scale1) * normal(x) + shift1)
        hidden = F.gelu(self.expand((1 + scale2) * normal(x) + shift2), approximate='tanh')
        return x + gate2 * self.contract(hidden)

    def attention(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


class DiT(nn.Module):
    def __init__(self, size: int, width: int, depth: int, patch: int, heads: int, classes: int):
        super().__init__()
        self.patch, self.side = patch, size // patch
        self.conditioning = Conditioning(width, classes)
        self.embed = nn.Linear(patch * patch, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, self.side**2, width))
        self.blocks = nn.ModuleList(TokenBlock(width, heads) for _ in range(depth))
        self.modulation, self.out = nn.Linear(width, 2 * width), nn.Linear(width, patch * patch)

    def forward(self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> Said:
        told = self.conditioning(t, label)
        x = self.embed(F.unfold(x, self.patch, stride=self.patch).transpose(1, 2)) + self.position
        middle = -(-len(self.blocks) // 2)
        for block in self.blocks[:middle]:
            x = block(x, told)
        bottleneck = x
        for block in self.blocks[middle:]:
            x = block(x, told)
        scale, shift = self.modulation(F.silu(told))[:, None].chunk(2, dim=-1)
        x = self.out((1 + scale) * normal(x) + shift).transpose(1, 2)
        size = self.side * self.patch
        return F.fold(x, (size, size), self.patch, stride=self.patch), bottleneck.transpose(1, 2)


class MapBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, told: int):
        super().__init__()
        self.norm1, self.norm2 = group_norm(inputs), group_norm(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.modulation = nn.Linear(told, 2 * outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulation(F.silu(told))[:, :, None, None].chunk(2, dim=1)
        return self.shortcut(x) + self.conv2(F.silu((1 + scale) * self.norm2(hidden) + shift))


class UNet(nn.Module):
    def __init__(self, widths: Sequence[int], patch: int, classes: int):
        super().__init__()
        told, self.patch = 2 * widths[0], patch
        self.conditioning = Conditioning(told, classes)
        self.stem = nn.Conv2d(patch**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList(MapBlock(a, b, told) for a, b in itertools.pairwise((widths[0], *widths)))
        self.middle = nn.ModuleList(MapBlock(widths[-1], widths[-1], told) for _ in range(2))
        upward = itertools.pairwise((widths[-1], *widths[::-1]))
        self.up = nn.ModuleList(MapBlock(before + width, width, told) for before, width in upward)
        self.norm = group_norm(widths[0])
        self.out = nn.Conv2d(widths[0], patch**2, 3, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> Said:
        told, kept = self.conditioning(t, label), []
        x = self.stem(F.pixel_unshuffle(x, self.patch))
        for level, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if level else x, told)
            kept.append(x)
        for block in self.middle:
            x = block(x, told)
        bottleneck = x
        for level, block in enumerate(self.up):
            x = F.interpolate(x, scale_factor=2.0) if level else x
            x = block(torch.cat([x, kept.pop()], dim=1), told)
        return F.pixel_shuffle(self.out(F.silu(self.norm(x))), self.patch), bottleneck


def head(width: int) -> nn.Module:
    """A logit for each place of the bottleneck: as our linear layers on the last axis."""
    return nn.Sequential(nn.Flatten(2), nn.Conv1d(width, width, 1), nn.ReLU(), nn.Conv1d(width, 1, 1))


def normal(x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)
