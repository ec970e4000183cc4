"""The training loop that preferences and supervised rows share."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from avem.errors import CheckpointError, DivergedError, SettingError
from avem.progress import stage
from avem.seeds import draw
from avem.train.data.features import ClipFeatures
from avem.train.model.modes import train_without_dropout
from avem.train.packing.epoch import MicroBatch, PlanRow, StepPlan
from avem.train.packing.specs import Media, ScoreSpec
from avem.train.run.checkpoint import (
    DamagedCheckpointError,
    gather_checkpoint,
    read_checkpoint,
    trained_parameters,
    write_checkpoint,
)
from avem.train.run.flops import StepCost, matmul_peak
from avem.train.run.fsdp import idle_pass, idle_passes, reshard
from avem.train.run.gradients import clip_gradients, join_gradients
from avem.train.run.optimizer import autocast, make_optimizer, rate_factor, set_rate
from avem.train.run.stopping import StopRequest
from avem.train.run.watch import Watch

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel
    from avem.train.run.session import Session

logger = logging.getLogger(__name__)

Check = Callable[["FamilyModel"], Mapping[str, float]]
"""Something measured at each checkpoint, by name; `held_loss` among them decides which checkpoint is the best."""


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

    def losses(self, model: FamilyModel, batch: MicroBatch, media: Media) -> tuple[Tensor, dict[str, Tensor]]:
        """Differentiable losses [B], and detached metrics [B] whose sums are divided likewise."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of a run."""

    steps: Sequence[StepPlan]
    epoch_ends: frozenset[int]
    """Counts of steps done at which an epoch is over."""


class Loop:
    """Runs a plan's steps, from the last checkpoint on.

    Args:
        session: Its model has the parameters that are trained marked by `requires_grad`.
        objective: What to minimise.
        features: Gives the media of a micro-batch.
        plan: All steps.
        checks: Measured at each checkpoint and logged with its step.

    Raises:
        SettingError: The run has fewer checkpoints than are to be averaged.
    """

    def __init__(
        self,
        session: Session,
        objective: Objective,
        features: ClipFeatures,
        plan: Plan,
        checks: Sequence[Check] = (),
    ) -> None:
        self._model, self._objective, self._features, self._plan = session.model, objective, features, plan
        self._config, self._run, self._accelerator = session.config, session.run, session.accelerator
        self._checks = checks
        self._optimizer = make_optimizer(session.model, session.config)
        self._parameters = list(trained_parameters(session.model).values())
        self._cost = StepCost.of(session.model)
        self._recent: list[float] = []
        self.averaged = self._averaged()
        """Steps whose checkpoints are averaged at the end; one that Ctrl-C left between them is not among them."""

    def run(self) -> None:
        """Train to the end of the plan.

        Raises:
            DivergedError: A loss or gradient is not finite; the message names rows, the last checkpoint is intact.
            CheckpointError: A checkpoint can't be read or written.
            KeyboardInterrupt: Ctrl-C or SIGTERM; the steps done until then are in a checkpoint.
        """
        done = self._restore()
        steps = self._plan.steps
        ahead = [self._specs(step) for step in steps[done:]]
        device = self._accelerator.device
        precision = torch.bfloat16 if self._config.precision == "bf16" else torch.float32
        peak = matmul_peak(device, precision) * self._accelerator.num_processes if ahead else 0.0
        watch = Watch(self._run, self._accelerator, len(ahead), peak)
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            StopRequest() as stop,
            stage("train", len(steps), unit="steps") as bar,
        ):
            bar.go_on_after(done)
            for number, media in enumerate(watch.waiting(self._features.stream(ahead)), start=done):
                metrics, stopping = self.step(number, media, stop)
                if due := stopping or self._is_due(number + 1):
                    metrics |= self._check()
                operations = self._cost.step(steps[number].tokens, steps[number].pairs)
                watch.report(number + 1, steps[number], metrics, operations, bar)
                if due:
                    self._save(number + 1, metrics)
                if stopping and number + 1 < len(steps):
                    logger.info("Step %d of %d is saved; the same command resumes from it", number + 1, len(steps))
                    raise KeyboardInterrupt

    def _specs(self, step: StepPlan) -> list[ScoreSpec]:
        own = step.ranks[self._accelerator.process_index]
        return [spec for batch in own for index in batch for spec in self._objective.rows[index].specs]

    def _restore(self) -> int:
        done = self._load_newest()
        if self._accelerator.is_main_process:
            self._run.trim(done)
        if done:
            logger.info("Resuming after step %d of %d", done, len(self._plan.steps))
        return done

    def _load_newest(self) -> int:
        """Read the newest intact checkpoint and set damaged ones aside; returns the steps done, 0 without a checkpoint.

        Raises:
            CheckpointError: Every checkpoint is damaged, or one belongs to another run.
        """
        damaged: list[tuple[Path, CheckpointError]] = []
        done = 0
        for step, directory in reversed(self._run.checkpoints()):
            try:
                if step > len(self._plan.steps):
                    raise DamagedCheckpointError(f"{directory} is past the run's {len(self._plan.steps)} steps.")
                done = read_checkpoint(directory, self._model, self._optimizer)
                break
            except DamagedCheckpointError as error:
                damaged.append((directory, error))
        self._accelerator.wait_for_everyone()  # every process has read before one renames
        if damaged and not done:
            raise CheckpointError(
                f"No checkpoint of the run in {self._run.path} is whole ({damaged[0][1]}); restore one from a copy, or "
                "start a new run with --out."
            )
        for directory, fault in damaged if self._accelerator.is_main_process else ():
            aside = self._run.set_aside(directory)
            logger.warning("%s It is now %s, and step %d is used instead.", fault, aside.name, done)
        return done

    def _averaged(self) -> list[int]:
        count = self._config.average_checkpoints
        if not count:
            return []
        due = [done for done in range(1, len(self._plan.steps) + 1) if self._is_due(done)]
        if len(due) < count:
            raise SettingError(
                f"average_checkpoints is {count}, but the run's {len(self._plan.steps)} steps have {len(due)} "
                "checkpoints; lower it or save_every."
            )
        return due[len(due) - count :]

    def _is_due(self, done: int) -> bool:
        regular = self._config.save_every > 0 and done % self._config.save_every == 0
        return regular or done in self._plan.epoch_ends or done == len(self._plan.steps)

    def _check(self) -> dict[str, float]:
        """What the checks measure, without dropout; every process takes part."""
        language_model = self._model.language_model
        language_model.eval()
        with torch.no_grad(), autocast(self._config, self._accelerator.device):
            found = {name: value for check in self._checks for name, value in check(self._model).items()}
        train_without_dropout(language_model)
        reshard(self._model)
        return found

    def _save(self, done: int, metrics: Mapping[str, float]) -> None:
        """Save a checkpoint, ranked by the held-out loss or, without held-out rows, by the mean since the last one."""
        loss = metrics.get("held_loss", math.fsum(self._recent) / max(len(self._recent), 1))
        self._recent.clear()
        content = gather_checkpoint(self._model, self._optimizer, keep=self._accelerator.is_main_process)
        if self._accelerator.is_main_process:
            self._run.save_checkpoint(
                done,
                lambda directory: write_checkpoint(directory, content, done),
                self._config.keep_checkpoints,
                loss=loss,
                needed=self.averaged,
            )
        self._accelerator.wait_for_everyone()

    def step(self, number: int, media: Media, stop: StopRequest | None = None) -> tuple[dict[str, float], bool]:
        """One optimiser step.

        Args:
            number: Of the step in the plan, from 0.
            media: Features of this process's rows.
            stop: Says whether this process was asked to stop.

        Returns:
            The step's metrics over all processes, and whether any of them was asked to stop.
        """
        plan, rank = self._plan.steps[number], self._accelerator.process_index
        torch.manual_seed(draw(self._config.seed, number, rank, choices=1 << 63))
        normaliser = self._objective.normaliser(plan.rows)
        sums = torch.zeros(1 + len(self._objective.metrics), device=self._accelerator.device, dtype=torch.float64)
        seen: list[tuple[MicroBatch, Tensor]] = []
        for batch in plan.ranks[rank]:
            with autocast(self._config, self._accelerator.device):
                losses, metrics = self._objective.losses(self._model, batch, media)
            torch.autograd.backward(losses.sum() / normaliser)  # [B] -> mean over the step's rows, or answer tokens
            losses = losses.detach()
            seen.append((batch, losses))
            sums += torch.stack([losses.sum(), *(metrics[name].sum() for name in self._objective.metrics)]).double()
        for _ in range(idle_passes(self._model, [plan], rank)):
            with autocast(self._config, self._accelerator.device):
                nothing = idle_pass(self._model)
            torch.autograd.backward(nothing)
        wish = sums.new_tensor([stop is not None and stop.requested])  # [1]
        totals, stopping = self._finite_totals(number, torch.cat([sums / normaliser, wish]), seen)  # [1 + metrics + 1]
        factor = rate_factor(number, len(self._plan.steps), self._config.warmup, self._config.schedule)
        set_rate(self._optimizer, factor)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._recent.append(totals["loss"])
        return {**totals, "lr": self._config.learning_rate * factor}, stopping

    def _finite_totals(
        self, number: int, sums: Tensor, seen: Sequence[tuple[MicroBatch, Tensor]]
    ) -> tuple[dict[str, float], bool]:
        """Join the processes' gradients, metrics and wishes to stop, clip, and refuse what is not finite."""
        join_gradients(self._parameters, self._accelerator)
        sums = self._accelerator.reduce(sums, "sum")
        norm = clip_gradients(self._parameters, self._config.max_grad_norm)
        *values, stops, norm_value = torch.cat([sums, norm.reshape(1).to(sums)]).tolist()
        if not (math.isfinite(values[0]) and math.isfinite(norm_value)):
            raise DivergedError(self._diverged(number, seen))
        names = ("loss", *self._objective.metrics)
        return {**dict(zip(names, values, strict=True)), "grad_norm": norm_value}, stops > 0

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
