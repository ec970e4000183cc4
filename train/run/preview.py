"""What a run would take of memory, from its plan and a model without weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from avem.train.data.noise import noise_row
from avem.train.model.media import SIDES, Medium, Side
from avem.train.packing.epoch import MicroBatch, PlanRow, StepPlan
from avem.train.packing.specs import Media, ScoreSpec
from avem.train.run.memory import MemoryEstimate, device_bytes, estimate_memory, make_weightless
from avem.train.run.optimizer import autocast
from avem.train.run.session import Session, prepare_model


def run_memory(session: Session, steps: Sequence[StepPlan], rows: Sequence[PlanRow]) -> MemoryEstimate:
    """Estimate what each process of a run takes.

    Args:
        session: Its model is a skeleton (`load_skeleton`); it is prepared for training and of no use afterwards.
        steps: All steps of the run.
        rows: What the steps name.
    """
    config, model, device = session.config, session.model, torch.device("cpu")
    half = config.precision == "bf16" and config.tune != "full"
    specs = _largest_batch(session, steps, rows)
    media = _silence(session, specs)
    sequences = [session.builder.sequence(spec, media) for spec in specs]

    def forward() -> Tensor:
        with autocast(config, device):
            return model.response_logprobs(sequences)

    model.to(torch.bfloat16 if half else torch.float32)
    prepare_model(model, config)
    make_weightless(model)
    return estimate_memory(
        model,
        forward,
        four_bit=config.quantise == "4bit",
        accumulates=any(len(rank) > 1 for step in steps for rank in step.ranks),
        processes=session.accelerator.num_processes,
        features=_feature_bytes(session, steps, rows),
        capacity=device_bytes(session.accelerator.device),
    )


def _largest_batch(session: Session, steps: Sequence[StepPlan], rows: Sequence[PlanRow]) -> list[ScoreSpec]:
    """What the model scores in the micro-batch of most tokens."""

    def tokens(batch: MicroBatch) -> int:
        specs = (spec for index in batch for spec in rows[index].specs)
        return sum({node: size for spec in specs for node, size in session.builder.pieces(spec)}.values())

    batch = max((batch for step in steps for rank in step.ranks for batch in rank), key=tokens)
    return [spec for index in batch for spec in rows[index].specs]


def _silence(session: Session, specs: Sequence[ScoreSpec]) -> Media:
    """Features of zeros for every clip that the specs name."""
    dtype = torch.bfloat16 if session.config.precision == "bf16" else torch.float16

    def zeros(side: Side) -> dict[int, Medium]:
        rows: set[int] = {getattr(spec, side) for spec in specs} - {None}
        streams = session.builder.streams
        return {row: streams.zeros(side, max(row, noise_row(row)), dtype) for row in rows}

    return Media(zeros("video"), zeros("audio"))


def _feature_bytes(session: Session, steps: Sequence[StepPlan], rows: Sequence[PlanRow]) -> int:
    """Bytes of the features on the device: all of the run's if they are kept, else two steps' worth."""
    streams = session.builder.streams

    def size(specs: Iterable[ScoreSpec]) -> int:
        used = {(side, getattr(spec, side)) for spec in specs for side in SIDES}
        return sum(streams.size(side, max(row, noise_row(row))) for side, row in used if row is not None)

    everything = size(spec for row in rows for spec in row.specs)
    if everything <= session.config.keep_features_mb << 20:
        return everything
    return 2 * max(size(spec for index in step.rows for spec in rows[index].specs) for step in steps)
