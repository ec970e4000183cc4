"""From the log-probabilities of a micro-batch of answers to their next-token losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from avem.train.answers import score_specs
from avem.train.data.examples import InstructionExample
from avem.train.packing.epoch import MicroBatch
from avem.train.packing.specs import Media, SequenceBuilder

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel


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

    def losses(self, model: FamilyModel, batch: MicroBatch, media: Media) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses [B], summed over each row's answer tokens."""
        specs = [self.rows[index].spec for index in batch]
        return -score_specs(model, self._builder, specs, media), {}
