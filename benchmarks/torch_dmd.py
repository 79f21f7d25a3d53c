"""The peer: a step of DMD2 as a plain PyTorch loop writes it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from dmd_step import CLASSES, GAN, HEAD, LEARNING_RATE, SCHEDULE, START
from torch import nn
from torch.nn import functional as F
from torch_denoisers import DiT, UNet, head
from torch_device import DEVICE, wait

LADDER = SCHEDULE.sigma_min ** (1 / SCHEDULE.rho), SCHEDULE.sigma_max ** (1 / SCHEDULE.rho)


def network(setting: dict[str, Any], kind: str) -> tuple[nn.Module, int]:
    """And the width of its bottleneck."""
    if kind == 'dit':
        width, depth, patch, heads = setting['dit']
        return DiT(setting['size'], width, depth, patch, heads, CLASSES), width
    widths, patch = setting['unet']
    return UNet(widths, patch, CLASSES), widths[-1]


def levels(t: torch.Tensor) -> torch.Tensor:
    """sigma of each example, on the Karras ladder."""
    return ((LADDER[0] + t * (LADDER[1] - LADDER[0])) ** SCHEDULE.rho)[:, None, None, None]


def data(network: nn.Module, x_t: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """EDM's data prediction for data of deviation 1; the network sees x_t."""
    sigma = levels(t)
    total = sigma**2 + 1
    return x_t / total + sigma / total.sqrt() * network(x_t, t, label)[0]


def noised(x: torch.Tensor, low: float, high: float) -> tuple[torch.Tensor, torch.Tensor]:
    t = low + (high - low) * torch.rand(len(x), device=x.device)
    return x + levels(t) * torch.randn_like(x), t


def dmd_step(
    setting: dict[str, Any], kind: str, batch: dict[str, np.ndarray], layout: torch.memory_format
) -> tuple[Callable[[], None], int]:
    """The step, and how many parameters the network has."""
    teacher, width = network(setting, kind)
    count = sum(p.numel() for p in teacher.parameters())
    teacher = teacher.to(DEVICE, memory_format=layout).requires_grad_(False)
    student, fake = (copy.deepcopy(teacher).requires_grad_(True) for _ in range(2))
    judge = head(width).to(DEVICE)
    followers = [*fake.parameters(), *judge.parameters()]
    lead = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    follow = torch.optim.AdamW(followers, lr=LEARNING_RATE, weight_decay=1e-4)
    real = torch.tensor(batch['data'], device=DEVICE).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    label = torch.tensor(batch['label'], dtype=torch.long, device=DEVICE)
    start = torch.ones(len(real), device=DEVICE)

    def logits(x: torch.Tensor) -> torch.Tensor:
        x_t, t = noised(x, 0.0, 1.0)
        return judge(fake(x_t, t, label)[1]).flatten(1)

    def step() -> None:
        x = data(student, START * torch.randn_like(real), start, label)
        made = x.detach()
        x_t, t = noised(made, 0.0, 1.0)
        weight = 1 / levels(t) ** 2 + 1
        denoising = (weight * (data(fake, x_t, t, label) - made) ** 2).mean()
        told = F.softplus(-logits(real)).mean() + F.softplus(logits(made)).mean()
        follow.zero_grad()
        (denoising + HEAD * told).backward()
        follow.step()

        x_t, t = noised(made, 0.02, 0.98)
        with torch.no_grad():
            said = data(teacher, x_t, t, label)
            size = (made - said).abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-5)
            target = made - (data(fake, x_t, t, label) - said) / size
        for parameter in followers:
            parameter.requires_grad_(False)
        loss = 0.5 * F.mse_loss(x, target) + GAN * F.softplus(-logits(x)).mean()
        lead.zero_grad()
        loss.backward()
        lead.step()
        for parameter in followers:
            parameter.requires_grad_(True)
        wait()

    return step, count
