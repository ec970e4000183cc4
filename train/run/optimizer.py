"""The optimiser of a run: what is trained at which rate, and how the rate goes over the run."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from avem.train.run.checkpoint import trained_parameters
from avem.train.settings.config import RunConfig, Schedule

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel


def rate_factor(step: int, total: int, warmup: float, schedule: Schedule) -> float:
    """Share of the peak learning rate at a step counted from 0: a linear rise, then constant, linear or half a cosine.

    The last step of `linear` and `cosine` is one step away from zero.
    """
    rise = math.ceil(warmup * total)
    if step < rise:
        return (step + 1) / (rise + 1)
    done = (step - rise) / max(total - rise, 1)  # share of the steps after the warm-up, from 0 up to but not 1
    if schedule == "constant":
        return 1.0
    return 1.0 - done if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))  # half a cosine, 1 -> 0


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to a share of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def make_optimizer(model: FamilyModel, config: RunConfig) -> torch.optim.AdamW:
    """AdamW over what is trained; projectors at their own rate, decay on matrices only.

    Projectors are in groups of their own even at the same rate: the rest may be sharded over processes.
    """
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in trained_parameters(model).items():
        projector = not name.startswith("language_model.")
        groups.setdefault((projector, parameter.ndim > 1), []).append(parameter)
    rates = {False: config.learning_rate, True: config.projector_learning_rate or config.learning_rate}
    return torch.optim.AdamW(
        [
            {
                "params": members,
                "lr": rates[projector],
                "peak": rates[projector],
                "weight_decay": config.weight_decay if matrix else 0.0,
            }
            for (projector, matrix), members in groups.items()
        ],
        betas=(0.9, config.adam_beta2),
        fused=True,
    )


def autocast(config: RunConfig, device: torch.device) -> AbstractContextManager[None]:
    """Matrix products in bfloat16 where `precision` is bf16."""
    return torch.autocast(device.type, torch.bfloat16) if config.precision == "bf16" else nullcontext()
