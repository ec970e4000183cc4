"""Preference training: AVEm-DPO, its ablations and its rivals, over cached features (section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from avem.cache.negatives.mine import mine_missing
from avem.cache.negatives.sources import source_warnings
from avem.records import PreferenceRow
from avem.train.data.examples import PreferenceExample, preference_examples
from avem.train.data.features import ClipFeatures
from avem.train.data.rows import read_preferences
from avem.train.objective.constants import score_constants
from avem.train.objective.preference import PreferenceObjective
from avem.train.packing.epoch import StepPlan
from avem.train.run.session import Session
from avem.train.run.training import run_training
from avem.train.settings.config import PreferenceConfig

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel


@dataclass(frozen=True, slots=True)
class PreferenceTraining:
    """Preference training as `avem.train.run.training` runs it."""

    config: PreferenceConfig

    def read(self) -> list[PreferenceRow]:
        """The preference rows."""
        return read_preferences(self.config.prefs)

    def examples(self, session: Session, rows: Sequence[PreferenceRow]) -> list[PreferenceExample]:
        """The rows joined with the store; negatives that are missing are mined first."""
        if self._takes_negatives(session):
            with session.accelerator.main_process_first():
                mine_missing(session.store, self.config.negatives, self.config.seed)
        return preference_examples(rows, session.store, session.builder, self.config)

    def warnings(self, session: Session) -> list[str]:
        """That the rejected inputs are a leak, where they nearly all come from one other source."""
        return source_warnings(session.store, self.config.negatives) if self._takes_negatives(session) else []

    def _takes_negatives(self, session: Session) -> bool:
        return self.config.replaces_inputs and session.noise is None

    def objective(
        self,
        session: Session,
        examples: Sequence[PreferenceExample],
        features: ClipFeatures,
        steps: Sequence[StepPlan],
    ) -> PreferenceObjective:
        """The objective of the examples in some steps; their constants are computed where the store has none."""
        used = sorted({index for step in steps for index in step.rows})  # with max_steps, not all of them
        constants = score_constants(session, [examples[index] for index in used], features)
        return PreferenceObjective(examples, session.builder, constants, self.config)


def train_preferences(config: PreferenceConfig, model: FamilyModel | None = None) -> Path:
    """Train a model on preferences; see `avem.train.run.training.run_training`."""
    return run_training(PreferenceTraining(config), model)


def cache_logprobs(config: PreferenceConfig, model: FamilyModel | None = None) -> int:
    """Compute the constant scores of every row and keep them in the store.

    Returns:
        How many scores the rows have.
    """
    training = PreferenceTraining(config)
    rows = training.read()
    session = Session.open(config, model)
    examples = training.examples(session, rows)
    specs = (spec for example in examples for spec in example.specs)
    return len(score_constants(session, examples, session.features(specs)))
