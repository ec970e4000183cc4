"""Supervised training: next-token loss on answers, for the projectors, the language model, or both."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from avem.train.config import SupervisedConfig
from avem.train.examples import InstructionExample, instruction_examples
from avem.train.plan import MicroBatch, PlanSummary, summarise
from avem.train.rows import read_instructions, rows_digest
from avem.train.run import RunDirectory
from avem.train.session import Session
from avem.train.specs import Media, SequenceBuilder

if TYPE_CHECKING:
    from avem.train.model import AudiovisualLM

logger = logging.getLogger(__name__)


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


def train_supervised(config: SupervisedConfig, model: AudiovisualLM | None = None) -> Path:
    """Train a model on questions with answers.

    Args:
        config: Settings.
        model: Train this model in place of the one that the settings name; it is changed.

    Returns:
        The run directory; its `final/` is what `load_model` reads.

    Raises:
        AvemError: See the children: settings, files, rows, store or model are not what the run needs.
    """
    run = RunDirectory(config.out)
    run.check(config)
    if run.final.is_dir():
        logger.info("The run in %s is complete", run.path)
        return run.path
    rows = read_instructions(config.data)
    session = Session.open(config, model)
    examples = instruction_examples(rows, session.store, session.builder)
    plan = session.plan(examples)
    run.start(config, session.sources(rows_digest(rows), plan))
    features = session.features(example.spec for example in examples)
    return session.train(SupervisedObjective(examples, session.builder), plan, features)


def preview_supervised(config: SupervisedConfig, model: AudiovisualLM | None = None) -> PlanSummary:
    """Check everything that training would, and say what an epoch amounts to; nothing is written."""
    rows = read_instructions(config.data)
    session = Session.open(config, model)
    examples = instruction_examples(rows, session.store, session.builder)
    return summarise(session.plan(examples).steps, examples, session.builder)
