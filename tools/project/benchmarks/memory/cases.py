"""What is trained and how, in each family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from avem.train.settings.config import Precision, PreferenceConfig, Tune

EVERYTHING = 1 << 20
"""Tokens that hold all rows."""


@dataclass(frozen=True, slots=True)
class Case:
    """Settings that decide what is kept in memory."""

    tune: Tune
    precision: Precision
    checkpointing: bool = False
    accumulates: bool = False
    """Whether each row is a micro-batch of its own."""

    def __str__(self) -> str:
        """For a table."""
        more = ", checkpointed" if self.checkpointing else ", two micro-batches" if self.accumulates else ""
        return f"{self.tune}, {self.precision}{more}"


CASES = (
    Case("lora", "float32"),
    Case("lora", "bf16"),
    Case("lora", "float32", checkpointing=True),
    Case("full", "float32", accumulates=True),
    Case("full", "bf16"),
)


def config_of(paths: Mapping[str, Any], case: Case, device: str = "cpu") -> PreferenceConfig:
    """Two steps of a case, which take all rows each.

    Args:
        paths: What `make_kit` gave; `out` is a new folder.
        case: The settings.
        device: As of a run.
    """
    return PreferenceConfig(
        **paths,
        tune=case.tune,
        precision=case.precision,
        gradient_checkpointing=case.checkpointing,
        tokens_per_batch=1 if case.accumulates else EVERYTHING,
        batch_size=2,
        accumulation=1,
        epochs=2,
        device=device,
        trackers="none",
    )
