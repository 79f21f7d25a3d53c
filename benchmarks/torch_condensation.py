"""The peer: training on a small set in plain PyTorch, differentiated through with `create_graph`, and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch_device import DEVICE

EPSILON = 1e-5

Params = dict[str, torch.Tensor]


def from_ours(params: Any) -> Params:
    """Parameters of `kdjax.models.convnet` or `.mlp`, by path: kernels `[H, W, in, out]` -> `[out, in, H, W]`."""
    return {path: torch.tensor(_turned(path, np.asarray(value)), device=DEVICE) for path, value in _leaves(params)}


def _leaves(tree: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f'{path}{name}/')
        else:
            yield path + name, value


def _turned(path: str, value: np.ndarray) -> np.ndarray:
    if not path.endswith('kernel'):
        return value.copy()
    return np.ascontiguousarray(value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T)


def convnet(params: Params, x: torch.Tensor) -> torch.Tensor:
    """Logits of images `[batch, channels, H, W]`: (convolution, instance norm, ReLU, mean pool), then linear."""
    for i in range(sum(name.startswith('convolutions/') for name in params) // 2):
        x = F.conv2d(x, params[f'convolutions/{i}/kernel'], params[f'convolutions/{i}/bias'], padding=1)
        x = F.group_norm(x, x.shape[1], params[f'norms/{i}/scale'], params[f'norms/{i}/bias'], EPSILON)
        x = F.avg_pool2d(F.relu(x), 2)
    rows = x.permute(0, 2, 3, 1).flatten(1)
    return F.linear(rows, params['classifier/kernel'], params['classifier/bias'])


def outer_step(start: Any, target: Any, image: np.ndarray, label: np.ndarray, rate: float, rows: np.ndarray):
    """`() -> (loss, gradient in the images)` of trajectory matching; rows: of each inner step, `[steps, batch]`."""
    begin, end = from_ours(start), from_ours(target)
    x = torch.tensor(image, device=DEVICE).permute(0, 3, 1, 2).contiguous().requires_grad_()
    step_size = torch.tensor(rate, device=DEVICE, requires_grad=True)
    y, batches = torch.tensor(label, device=DEVICE), torch.tensor(rows, dtype=torch.long, device=DEVICE)
    apart = sum(torch.sum((begin[name] - end[name]) ** 2) for name in begin)

    def call() -> tuple[float, np.ndarray]:
        params = {name: value.clone().requires_grad_() for name, value in begin.items()}
        for seen in batches:
            loss = F.cross_entropy(convnet(params, x[seen]), y[seen])
            slopes = torch.autograd.grad(loss, list(params.values()), create_graph=True)
            params = {n: p - step_size * g for (n, p), g in zip(params.items(), slopes, strict=True)}
        value = sum(torch.sum((params[name] - end[name]) ** 2) for name in params) / apart
        of_x, _ = torch.autograd.grad(value, [x, step_size])
        return float(value.detach()), of_x.permute(0, 2, 3, 1).cpu().numpy()

    return call


def mlp(inputs: int, widths: tuple[int, ...], classes: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for before, width in zip((inputs, *widths), widths, strict=False):
        layers += [nn.Linear(before, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


def conv_module(side: int, width: int, depth: int, classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(depth):
        norm = nn.GroupNorm(width, width)
        layers += [nn.Conv2d(width if i else 1, width, 3, padding=1), norm, nn.ReLU(), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear((side >> depth) ** 2 * width, classes))


def evaluated(
    make: Callable[[], nn.Module],
    images: np.ndarray,
    labels: np.ndarray,
    real: np.ndarray,
    truth: np.ndarray,
    *,
    networks: int,
    steps: int,
    batch: int,
    rate: float,
) -> Callable[[], list[float]]:
    """`() -> accuracies`: networks trained on the set with Adam, one after the other, and tested on real images."""
    x, tested = (torch.tensor(a, device=DEVICE).permute(0, 3, 1, 2).contiguous() for a in (images, real))
    y, wanted = (torch.tensor(a, dtype=torch.long, device=DEVICE) for a in (labels, truth))

    def one() -> float:
        network = make().to(DEVICE)
        optimizer = torch.optim.Adam(network.parameters(), lr=rate)
        for i in range(steps):
            part = i % (len(x) // batch)
            if part == 0:
                order = torch.randperm(len(x), device=DEVICE)
            rows = order[part * batch : (part + 1) * batch]
            loss = F.cross_entropy(network(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            return float((network(tested).argmax(dim=1) == wanted).float().mean())

    return lambda: [one() for _ in range(networks)]
