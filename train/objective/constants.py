"""The scores of a preference row that do not depend on the trained weights: computed once, kept in the store.

Of the eleven scores of a row seven are constants of the run: four of the reference policy and three of the text prior.
They are keyed by what they depend on (model, precision, features, the prompt's token ids, the clips' content), so that
a later run, another seed or another ablation finds them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import gather_object

from avem.cache import ScoreCache
from avem.errors import DivergedError
from avem.files import json_sha256
from avem.progress import stage
from avem.train.answers import score_specs
from avem.train.data.examples import PreferenceExample
from avem.train.data.features import ClipFeatures
from avem.train.data.streams import ClipStreams
from avem.train.packing.epoch import group_rows, pack_specs
from avem.train.packing.specs import ScoreSpec, SequenceBuilder
from avem.train.run.fsdp import idle_pass, is_sharded
from avem.train.run.optimizer import autocast

if TYPE_CHECKING:
    from avem.train.run.session import Session

KEY_VERSION = 3
"""Increased when the same key would mean another score. Version 1 keyed the text of questions, not their tokens;
version 2 had logits in bfloat16 where the model was."""
SAVE_EVERY_S = 20.0
"""Scores that are not yet in the cache are at most about this old, so that a killed run loses little."""


def score_fingerprint(model: str, streams: ClipStreams, precision: str) -> dict[str, Any]:
    """What every constant score depends on besides its own text and clips."""
    return {"version": KEY_VERSION, "model": model, "features": streams.identity(), "precision": precision}


def spec_key(spec: ScoreSpec, names: Mapping[int, str], builder: SequenceBuilder) -> str:
    """Key of a score in the cache: a digest of the sequence as the model reads it.

    Args:
        spec: What is scored.
        names: Name of each store row's content, and of what negative numbers stand for.
        builder: Renders and tokenises; two prompts of one question are two keys if a template writes them differently.
    """
    ids, response_start = builder.ids(spec)
    video = None if spec.video is None else names[spec.video]
    audio = None if spec.audio is None else names[spec.audio]
    return json_sha256([ids, response_start, video, audio])


def score_constants(
    session: Session, examples: Sequence[PreferenceExample], features: ClipFeatures
) -> dict[ScoreSpec, float]:
    """Every constant of the examples: from the store's score cache, or computed now and kept there.

    Args:
        session: Its model is the reference policy, that is the model before training; the reference's language model
            is the text prior. Its processes share the work.
        examples: Rows that the run will see.
        features: Gives their media.

    Returns:
        Summed log-probability of every spec that the examples name, with and without media.

    Raises:
        DivergedError: A score is not finite; the message names the row.
    """
    precision = f"{session.config.precision} {session.model.dtype}"
    cache = ScoreCache(session.config.cache, score_fingerprint(session.fingerprint, session.builder.streams, precision))
    names = session.input_names
    order = [index for group in group_rows(examples, "mutual") for index in group]
    specs = list(dict.fromkeys(spec for index in order for spec in _specs(examples[index])))
    keys = {spec: spec_key(spec, names, session.builder) for spec in specs}
    found = dict(zip(specs, cache.get(list(keys.values())).tolist(), strict=True))
    missing = [spec for spec in specs if np.isnan(found[spec])]
    if missing:
        with stage("constants", len(missing), unit="scores") as bar:
            for scores in _scored(session, missing, features):
                _check_finite(scores, examples)
                if session.accelerator.is_main_process:
                    cache.put([keys[spec] for spec in scores], np.array(list(scores.values()), dtype=np.float64))
                found.update(scores)
                bar.advance(len(scores))
    return found


def _check_finite(scores: Mapping[ScoreSpec, float], examples: Sequence[PreferenceExample]) -> None:
    bad = {spec for spec, score in scores.items() if not math.isfinite(score)}
    for example in examples if bad else ():
        if not bad.isdisjoint(_specs(example)):
            raise DivergedError(
                f"The reference's score of row {example.row_id} is not finite; its features or the model are damaged, "
                "see `avem cache verify`."
            )


def _specs(example: PreferenceExample) -> Iterator[ScoreSpec]:
    yield from example.scores.values()
    yield from example.texts.values()


def _scored(
    session: Session, specs: Sequence[ScoreSpec], features: ClipFeatures
) -> Iterator[Mapping[ScoreSpec, float]]:
    """Scores of all processes, a few seconds' worth at a time."""
    model, builder, accelerator = session.model, session.builder, session.accelerator
    batches = pack_specs(builder, specs, session.config.tokens_per_batch)
    world, rank = accelerator.num_processes, accelerator.process_index
    rounds = [batches[start : start + world] for start in range(0, len(batches), world)]
    own = [tuple(batch[rank]) if rank < len(batch) else () for batch in rounds]
    waiting: list[tuple[ScoreSpec, float]] = []
    since = time.monotonic()
    for number, media in enumerate(features.stream(own)):
        with torch.no_grad(), autocast(session.config, accelerator.device):
            if own[number]:
                scores = score_specs(model, builder, own[number], media)  # log pi_ref(y|a,v,x) or t(y), [specs]
            elif is_sharded(model):
                idle_pass(model)
        if own[number]:
            waiting += zip(own[number], scores.double().tolist(), strict=True)
        together = world > 1  # every process has to come to the exchange, so it can't depend on a clock
        if together or time.monotonic() - since > SAVE_EVERY_S or number + 1 == len(rounds):
            yield dict(gather_object(waiting) if together else waiting)
            waiting, since = [], time.monotonic()
