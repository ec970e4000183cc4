"""Supervised training: next-token loss on answers, for the projectors, the language model, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from avem.records import InstructionRow
from avem.train.data.examples import InstructionExample, instruction_examples
from avem.train.data.features import ClipFeatures
from avem.train.data.rows import read_instructions
from avem.train.objective.supervised import SupervisedObjective
from avem.train.packing.epoch import StepPlan
from avem.train.run.session import Session
from avem.train.run.training import run_training
from avem.train.settings.config import SupervisedConfig

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel


@dataclass(frozen=True, slots=True)
class SupervisedTraining:
    """Supervised training as `avem.train.run.training` runs it."""

    config: SupervisedConfig

    def read(self) -> list[InstructionRow]:
        """The instruction rows."""
        return read_instructions(self.config.data)

    def examples(self, session: Session, rows: Sequence[InstructionRow]) -> list[InstructionExample]:
        """The rows joined with the store."""
        return instruction_examples(rows, session.store, session.builder)

    def warnings(self, session: Session) -> list[str]:
        """Nothing: what rows say is not compared with the store."""
        return []

    def objective(
        self,
        session: Session,
        examples: Sequence[InstructionExample],
        features: ClipFeatures,
        steps: Sequence[StepPlan],
    ) -> SupervisedObjective:
        """The objective of the examples; nothing about them is constant."""
        return SupervisedObjective(examples, session.builder)


def train_supervised(config: SupervisedConfig, model: FamilyModel | None = None) -> Path:
    """Train a model on questions with answers; see `avem.train.run.training.run_training`."""
    return run_training(SupervisedTraining(config), model)
