"""Supervised training: next-token loss on answers, for the projectors, the language model, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from avem.records import InstructionRow
from avem.train.data.examples import InstructionExample, instruction_examples
from avem.train.data.features import ClipFeatures
from avem.train.data.rows import read_instructions
from avem.train.packing.epoch import MicroBatch, PlanSummary
from avem.train.packing.specs import Media, SequenceBuilder
from avem.train.run.session import Session
from avem.train.run.training import preview_task, run_task
from avem.train.settings.config import SupervisedConfig

if TYPE_CHECKING:
    from avem.train.model.audiovisual import AudiovisualLM


class SupervisedObjective:
    """Minus the log-probability of the answers, as a mean over answer tokens.

    Args:
        rows: The examples.
        builder: Makes sequences.
    """

    metrics: tuple[str, ...] = ()

    def __init__(self, rows: Sequence[InstructionExample], builder: SequenceBuilder) -> None:
        self.rows, self._builder = rows, builder

    def normaliser(self, batch: Sequence[int]) -> float:
        """Answer tokens of these rows."""
        return sum(self._builder.answer_tokens(self.rows[index].spec) for index in batch)

    def losses(self, model: AudiovisualLM, batch: MicroBatch, media: Media) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses [B], summed over each row's answer tokens."""
        sequences = [self._builder.sequence(self.rows[index].spec, media) for index in batch]
        return -model.response_logprobs(sequences), {}


@dataclass(frozen=True, slots=True)
class SupervisedTask:
    """Supervised training as `avem.train.run.training` runs it."""

    config: SupervisedConfig

    def read(self) -> list[InstructionRow]:
        """The instruction rows."""
        return read_instructions(self.config.data)

    def examples(self, session: Session, rows: Sequence[InstructionRow]) -> list[InstructionExample]:
        """The rows joined with the store."""
        return instruction_examples(rows, session.store, session.builder)

    def objective(
        self, session: Session, examples: Sequence[InstructionExample], features: ClipFeatures
    ) -> SupervisedObjective:
        """The objective of some examples."""
        return SupervisedObjective(examples, session.builder)


def train_supervised(config: SupervisedConfig, model: AudiovisualLM | None = None) -> Path:
    """Train a model on questions with answers; see `avem.train.run.training.run_task`."""
    return run_task(SupervisedTask(config), model)


def preview_supervised(config: SupervisedConfig, model: AudiovisualLM | None = None) -> PlanSummary:
    """Check everything that training would, and say what it amounts to; no run is begun."""
    return preview_task(SupervisedTask(config), model)
