"""What is measured at each checkpoint: held-out rows, and how much the model relies on audio and on video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from avem.seeds import draw
from avem.train.data.features import ClipFeatures
from avem.train.packing.epoch import PlanRow, StepPlan
from avem.train.packing.specs import ScoreSpec, SequenceBuilder
from avem.train.run.fsdp import idle_pass, idle_passes
from avem.train.run.loop import Objective

if TYPE_CHECKING:
    from avem.cache import FeatureStore
    from avem.train.families.base import FamilyModel
    from avem.train.run.session import Session

Swapped = tuple[ScoreSpec, ScoreSpec, ScoreSpec]
"""An answer on its own clip, on another clip's audio, and on another clip's video."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The objective on rows that are not trained on, shared among processes: `held_loss`, `held_margin`, ..."""

    objective: Objective
    steps: Sequence[StepPlan]
    features: ClipFeatures
    session: Session

    def __call__(self, model: FamilyModel) -> Mapping[str, float]:
        """Measure; every process has to take part."""
        accelerator, rows = self.session.accelerator, self.objective.rows
        names = ("loss", *self.objective.metrics)
        sums = torch.zeros(len(names), device=accelerator.device, dtype=torch.float64)
        own = [batch for step in self.steps for batch in step.ranks[accelerator.process_index]]
        specs = [[spec for index in batch for spec in rows[index].specs] for batch in own]
        for batch, media in zip(own, self.features.stream(specs), strict=True):
            losses, metrics = self.objective.losses(model, batch, media)
            sums += torch.stack([losses.sum(), *(metrics[name].sum() for name in names[1:])]).double()
        for _ in range(idle_passes(model, self.steps, accelerator.process_index)):
            idle_pass(model)
        sums = accelerator.reduce(sums, "sum") / self.objective.normaliser(range(len(rows)))
        return {f"held_{name}": value for name, value in zip(names, sums.tolist(), strict=True)}


@dataclass(frozen=True, slots=True)
class Reliance:
    """By how many nats another clip's audio or video lowers log pi(answer): `reliance_audio`, `reliance_video`."""

    rows: Sequence[Swapped]
    builder: SequenceBuilder
    features: ClipFeatures

    def __call__(self, model: FamilyModel) -> Mapping[str, float]:
        """Measure, row by row; every process does the same."""
        drops = []
        for row in self.rows:
            media = self.features.media(row)
            own, *others = model.response_logprobs([self.builder.sequence(spec, media) for spec in row]).tolist()
            drops.append([own - other for other in others])
        audio, video = np.mean(drops, axis=0).tolist()
        return {"reliance_audio": audio, "reliance_video": video}


def swapped_specs(
    rows: Sequence[PlanRow],
    store: FeatureStore,
    count: int,
    seed: int,
    subtitle: Callable[[int], str | None] = lambda row: None,
) -> list[Swapped]:
    """Answers to measure reliance on, drawn from the rows.

    Args:
        rows: Training rows; the first spec of each is the right answer on its own clip.
        store: Knows the clips' emotions.
        count: How many.
        seed: Decides which rows, and whose audio and video stand in: a clip of another emotion, with both streams.
        subtitle: The subtitle that prompts show of a clip, which goes with its audio.

    Returns:
        At most `count`; none where the model or the store has only one modality.
    """
    emotions = store.clips["emotion"].to_pylist()
    both = [row for row in rows if row.specs[0].video is not None and row.specs[0].audio is not None]
    clips = sorted({row.clip for row in both})
    chosen = []
    for row in sorted(both, key=lambda row: draw(seed, "reliance", row.row_id, choices=1 << 62))[:count]:
        others = [clip for clip in clips if emotions[clip] != emotions[row.clip]]
        if others:
            other, own = others[draw(seed, "swap", row.row_id, choices=len(others))], row.specs[0]
            chosen.append((own, replace(own, audio=other, subtitle=subtitle(other)), replace(own, video=other)))
    return chosen
