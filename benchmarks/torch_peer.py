"""The peer: the same networks and the same KD step, as a plain PyTorch loop."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from timing import Contestant
from torch import nn
from torch.nn import functional as F
from torch_device import DEVICE, wait
from workload import CLASSES, LEARNING_RATE, MEAN, SEED, STD, TEMPERATURE, WEIGHT, WEIGHT_DECAY

from kdjax.data.batches import batch_indices
from kdjax.data.dataset import ArraySource

LAYOUTS = {'NCHW': torch.contiguous_format, 'NHWC': torch.channels_last}


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.shortcut(x) + self.body(x))


def resnet(depth: int, widths: tuple[int, ...]) -> nn.Module:
    """The networks of `kdjax.models.resnet`: a stem, then three stages of (depth - 2) / 6 blocks."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(),
    ]  # fmt: skip
    for before, width, stride in zip(widths[:-1], widths[1:], (1, 2, 2), strict=True):
        layers.append(Block(before, width, stride))
        layers.extend(Block(width, width, 1) for _ in range((depth - 2) // 6 - 1))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], CLASSES))


def live_teacher(network: nn.Module, layout: torch.memory_format) -> Callable[..., torch.Tensor]:
    """A frozen network in evaluation mode, applied to every batch."""
    network = network.eval().to(DEVICE, memory_format=layout)

    def logits(image: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return network(image)

    return logits


def cached_teacher(logits: np.ndarray) -> Callable[..., torch.Tensor]:
    """Rows of stored logits `[examples, classes]`."""
    table = torch.tensor(logits, device=DEVICE)
    return lambda image, row: table[row]


def torch_loop(
    student: nn.Module,
    teacher: Callable[..., torch.Tensor],
    source: ArraySource,
    *,
    batch: int,
    layout: torch.memory_format,
) -> Contestant:
    """The KD step in a `for`: gather, normalise, forward, backward, AdamW. The split is in memory."""
    student = student.train().to(DEVICE, memory_format=layout)
    optimizer = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    images = torch.tensor(source['image'], device=DEVICE).permute(0, 3, 1, 2)
    labels = torch.tensor(source['label'], dtype=torch.long, device=DEVICE)
    mean, std = (torch.tensor(values, device=DEVICE).view(1, 3, 1, 1) for values in (MEAN, STD))

    def step(row: torch.Tensor) -> None:
        image = ((images[row].float() / 255 - mean) / std).contiguous(memory_format=layout)
        logits = student(image)
        loss = F.cross_entropy(logits, labels[row]) + WEIGHT * softened_kl(logits, teacher(image, row))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def run(steps: int) -> float:
        rows = batch_indices(len(source), batch=batch, seed=SEED, first_step=0, steps=steps)
        start = time.perf_counter()
        for row in rows:
            step(torch.tensor(row, device=DEVICE))
        wait()
        return time.perf_counter() - start

    return run


def softened_kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """T^2 KL(teacher || student) at temperature T, the mean over the batch."""
    said, target = (F.log_softmax(logits / TEMPERATURE, dim=1) for logits in (student, teacher))
    return TEMPERATURE**2 * F.kl_div(said, target, log_target=True, reduction='batchmean')
