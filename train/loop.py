"""The training loop that preferences and supervised rows share."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor

from avem.errors import AvemError
from avem.progress import Stage, stage
from avem.train.config import RunConfig, Schedule
from avem.train.features import ClipFeatures
from avem.train.plan import MicroBatch, PlanRow, StepPlan
from avem.train.rejected_inputs import draw
from avem.train.run import RunDirectory
from avem.train.specs import Media, ScoreSpec
from avem.train.state import load_state, save_state, trained_parameters

if TYPE_CHECKING:
    from avem.train.model import AudiovisualLM

logger = logging.getLogger(__name__)

SHOWN = ("loss", "margin", "accuracy")
"""Metrics on the progress line."""


class DivergedError(AvemError):
    """The loss or its gradient is not a finite number any more."""


class Objective(Protocol):
    """What is minimised: per-row losses of a micro-batch, and what a step's sum is divided by."""

    @property
    def rows(self) -> Sequence[PlanRow]:
        """The rows that the plan's indices mean."""

    @property
    def metrics(self) -> Sequence[str]:
        """Names of the metrics beside the loss."""

    def normaliser(self, batch: Sequence[int]) -> float:
        """What a step of these rows divides its sums by: rows, or answer tokens."""

    def losses(self, model: AudiovisualLM, batch: MicroBatch, media: Media) -> tuple[Tensor, dict[str, Tensor]]:
        """Differentiable losses [B], and detached metrics [B] whose sums are divided likewise."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of a run."""

    steps: Sequence[StepPlan]
    epoch_ends: frozenset[int]
    """Counts of steps done at which an epoch is over."""


def rate_factor(step: int, total: int, warmup: float, schedule: Schedule) -> float:
    """Share of the peak learning rate at a step counted from 0: a linear rise, then constant, linear or half a cosine.

    The last step of `linear` and `cosine` is one step away from zero.
    """
    rise = math.ceil(warmup * total)
    if step < rise:
        return (step + 1) / (rise + 1)
    done = (step - rise) / max(total - rise, 1)
    if schedule == "constant":
        return 1.0
    return 1.0 - done if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def autocast(config: RunConfig, device: torch.device) -> AbstractContextManager[None]:
    """Where bf16 is asked for, matrix products in bfloat16."""
    return torch.autocast(device.type, torch.bfloat16) if config.precision == "bf16" else nullcontext()


def make_optimizer(model: AudiovisualLM, config: RunConfig) -> torch.optim.AdamW:
    """AdamW over what is trained; projectors at their own rate, decay on matrices only."""
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    for name, parameter in trained_parameters(model).items():
        projector = name.startswith(("video_projector.", "audio_projector."))
        rate = (config.projector_learning_rate if projector else None) or config.learning_rate
        groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": members, "lr": rate, "peak": rate, "weight_decay": config.weight_decay if matrix else 0.0}
            for (rate, matrix), members in groups.items()
        ],
        fused=True,
    )


class Loop:
    """Runs a plan's steps, from the last checkpoint on.

    Args:
        model: With the parameters that are trained marked by `requires_grad`.
        objective: What to minimise.
        features: Gives the media of a micro-batch.
        plan: All steps.
        config: Settings.
        run: Where checkpoints and metrics go.
        accelerator: Device and processes.
    """

    def __init__(
        self,
        model: AudiovisualLM,
        objective: Objective,
        features: ClipFeatures,
        plan: Plan,
        config: RunConfig,
        run: RunDirectory,
        accelerator: Accelerator,
    ) -> None:
        self._model, self._objective, self._features, self._plan = model, objective, features, plan
        self._config, self._run, self._accelerator = config, run, accelerator
        self._optimizer = make_optimizer(model, config)
        self._parameters = list(trained_parameters(model).values())

    def run(self) -> None:
        """Train to the end of the plan.

        Raises:
            DivergedError: A loss or gradient is not finite; the message names rows, the last checkpoint is whole.
            CheckpointError: A checkpoint can't be read or written.
        """
        done = self._restore()
        steps = self._plan.steps
        ahead = [self._specs(step) for step in steps[done:]]
        devices = [self._accelerator.device] if self._accelerator.device.type == "cuda" else []
        with torch.random.fork_rng(devices), stage("train", len(steps), unit="steps") as bar:
            bar.advance(done)
            clock = _Clock(len(steps) - done)
            for number, media in enumerate(self._features.stream(ahead), start=done):
                metrics = self._step(number, media)
                self._report(number + 1, metrics, clock, bar)
                if self._is_due(number + 1):
                    self._save(number + 1)

    def _specs(self, step: StepPlan) -> list[ScoreSpec]:
        own = step.ranks[self._accelerator.process_index]
        return [spec for batch in own for index in batch for spec in self._objective.rows[index].specs]

    def _restore(self) -> int:
        checkpoints = self._run.checkpoints()
        done = load_state(checkpoints[-1][1], self._model, self._optimizer) if checkpoints else 0
        if self._accelerator.is_main_process:
            self._run.trim(done)
        if done:
            logger.info("Going on after step %d of %d", done, len(self._plan.steps))
        return done

    def _is_due(self, done: int) -> bool:
        regular = self._config.save_every > 0 and done % self._config.save_every == 0
        return regular or done in self._plan.epoch_ends or done == len(self._plan.steps)

    def _save(self, done: int) -> None:
        if self._accelerator.is_main_process:
            self._run.save_checkpoint(
                done,
                lambda directory: save_state(directory, self._model, self._optimizer, done),
                self._config.keep_checkpoints,
            )
        self._accelerator.wait_for_everyone()

    def _step(self, number: int, media: Media) -> dict[str, float]:
        """One optimiser step; returns the step's metrics."""
        plan, rank = self._plan.steps[number], self._accelerator.process_index
        torch.manual_seed(draw(self._config.seed, number, rank, choices=1 << 63))
        normaliser = self._objective.normaliser(plan.rows)
        sums = torch.zeros(1 + len(self._objective.metrics), device=self._accelerator.device, dtype=torch.float64)
        seen: list[tuple[MicroBatch, Tensor]] = []
        for batch in plan.ranks[rank]:
            with autocast(self._config, self._accelerator.device):
                losses, metrics = self._objective.losses(self._model, batch, media)
            torch.autograd.backward(losses.sum() / normaliser)
            losses = losses.detach()
            seen.append((batch, losses))
            sums += torch.stack([losses.sum(), *(metrics[name].sum() for name in self._objective.metrics)]).double()
        totals = self._finite_totals(number, sums / normaliser, seen)
        factor = rate_factor(number, len(self._plan.steps), self._config.warmup, self._config.schedule)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return {**totals, "lr": self._config.learning_rate * factor}

    def _finite_totals(self, number: int, sums: Tensor, seen: Sequence[tuple[MicroBatch, Tensor]]) -> dict[str, float]:
        """Join the processes' gradients and metrics, clip, and refuse to go on with what is not finite."""
        self._join_gradients()
        sums = self._accelerator.reduce(sums, "sum")
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._config.max_grad_norm > 0:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self._config.max_grad_norm, norm)
        values: list[float] = torch.cat([sums, norm.reshape(1).to(sums)]).tolist()
        if not (math.isfinite(values[0]) and math.isfinite(values[-1])):
            raise DivergedError(self._diverged(number, seen))
        return dict(zip(("loss", *self._objective.metrics, "grad_norm"), values, strict=True))

    def _diverged(self, number: int, seen: Sequence[tuple[MicroBatch, Tensor]]) -> str:
        rows = self._objective.rows
        bad = [
            rows[index].row_id
            for batch, losses in seen
            for index, loss in zip(batch, losses.tolist(), strict=True)
            if not math.isfinite(loss)
        ]
        all_rows = [rows[index].row_id for batch, _ in seen for index in batch]
        what = f"The loss of row {', '.join(bad)}" if bad else f"The gradient of rows {', '.join(all_rows)}"
        checkpoints = self._run.checkpoints()
        last = f"{checkpoints[-1][1]} is the last good checkpoint" if checkpoints else "no checkpoint was saved yet"
        return f"{what} is not finite at step {number + 1}; {last}; lower learning_rate or look at these rows."

    def _join_gradients(self) -> None:
        """Sum gradients over processes, in one message; a process that had no rows adds zero."""
        if self._accelerator.num_processes == 1:
            return
        for parameter in self._parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        joined = self._accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "sum")
        for gradient, part in zip(gradients, joined.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def _report(self, done: int, metrics: dict[str, float], clock: _Clock, bar: Stage) -> None:
        if not self._accelerator.is_main_process:
            return
        plan = self._plan.steps[done - 1]
        speed = clock.tick(len(plan.rows), plan.tokens)
        self._run.log({"step": done, "rows": len(plan.rows), "tokens": plan.tokens, **metrics, **speed})
        self._accelerator.log(metrics | speed, step=done)
        bar.advance(note=" ".join(f"{name} {metrics[name]:.4g}" for name in SHOWN if name in metrics))


class _Clock:
    """Speeds of the step just done, and the time left at the average speed so far."""

    def __init__(self, steps: int) -> None:
        self._steps, self._done = steps, 0
        self._began = self._last = time.monotonic()

    def tick(self, rows: int, tokens: int) -> dict[str, float]:
        now = time.monotonic()
        elapsed, self._last = max(now - self._last, 1e-9), now
        self._done += 1
        left = (now - self._began) / self._done * (self._steps - self._done)
        return {
            "rows_per_s": round(rows / elapsed, 3),
            "tokens_per_s": round(tokens / elapsed, 1),
            "time_left_s": round(left, 1),
        }
