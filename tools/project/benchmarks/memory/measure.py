"""What a real step holds at its fullest moment, beside the estimate made before any weight is read."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from avem.train.packing.specs import ScoreSpec
from avem.train.preference import PreferenceTraining
from avem.train.run.loop import Loop
from avem.train.run.memory import MemoryEstimate
from avem.train.run.session import Session, prepare_model
from avem.train.run.training import preview_training
from avem.train.settings.config import PreferenceConfig


@dataclass(frozen=True, slots=True)
class Measured:
    """A step's memory."""

    estimate: MemoryEstimate
    peak: int
    """Bytes that tensors took at the fullest moment."""

    @property
    def error(self) -> float:
        """By what share the estimate is too high; below 0 where it is too low."""
        return self.estimate.total / self.peak - 1


def measure(config: PreferenceConfig) -> Measured:
    """Estimate a run's memory, then do two of its steps and measure the second, which has the optimiser's moments.

    Args:
        config: All of its steps alike; on the CPU, or on a GPU that no other program uses.
    """
    training = PreferenceTraining(config)
    estimate = preview_training(training).memory
    if estimate is None:
        raise RuntimeError("A preview without a model estimates memory.")
    rows = training.read()
    session = Session.open(config)
    examples = training.examples(session, rows)
    plan, features = session.plan(examples), session.features(_specs(examples))
    objective = training.objective(session, examples, features, plan.steps)
    prepare_model(session.model, config)
    loop, media = Loop(session, objective, features, plan), features.media(_specs(examples))

    device = session.accelerator.device
    left = peak_bytes(partial(loop.step, 0, media), device).left
    held = session.model.parameters(), tensors_of(media.video), tensors_of(media.audio)
    before = sum(tensor.numel() * tensor.element_size() for group in held for tensor in group)
    return Measured(estimate, before + left + peak_bytes(partial(loop.step, 1, media), device).most)


@dataclass(frozen=True, slots=True)
class Allocated:
    """Bytes beyond those before a call."""

    most: int
    left: int
    """At its end."""


def peak_bytes(run: Callable[[], object], device: torch.device) -> Allocated:
    """Bytes that PyTorch's allocator hands out during a call, in kernels too.

    Args:
        run: The call.
        device: Of the memory. The CPU's allocator is read through PyTorch's profiler, which slows the call down.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        most, left = torch.cuda.max_memory_allocated(device), torch.cuda.memory_allocated(device)
        return Allocated(most - before, left - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
        gc.collect()
    found: Any = profiler.profiler
    events = [event for event in found.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: int(event.start_ns())):
        now += event.nbytes()
        most = max(most, now)
    return Allocated(most, now)


def tensors_of(value: object) -> Iterator[Tensor]:
    """Every tensor in nested records."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors_of(part)
    elif hasattr(value, "features") and hasattr(value, "companions"):
        yield from tensors_of([value.features, *value.companions.values()])
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors_of(part)


def _specs(rows: Iterable[Any]) -> list[ScoreSpec]:
    return [spec for row in rows for spec in row.specs]
