"""Training examples: rows joined with the store, their rejected inputs chosen, and everything checked."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from avem.cache.negatives.mine import negatives_attributes
from avem.cache.negatives.reasons import SAME_SOURCE
from avem.cache.windows import named_windows
from avem.errors import DataError, StoreError, UnknownClipError
from avem.guards.special_tokens import refuse_special
from avem.records import InstructionRow, Modality, PreferenceRow
from avem.seeds import draw
from avem.train.data.negatives import choose_negatives, draw_negatives
from avem.train.data.noise import NOISE_RECIPES, noise_row
from avem.train.data.rows import REJECTED_FIELDS
from avem.train.model.media import SIDES, Side
from avem.train.packing.specs import ScoreSpec, SequenceBuilder
from avem.train.settings.config import PreferenceConfig

if TYPE_CHECKING:
    from avem.cache import FeatureStore

logger = logging.getLogger(__name__)

Input = tuple[int, int | None, int | None]
"""Store rows of a clip, of its video side and of its audio side."""


@dataclass(frozen=True, slots=True)
class PreferenceExample:
    """A preference row ready to be scored."""

    row_id: str
    clip: int
    partner: int | None
    """Store row of the clip that replaces the input; None without a modality term."""
    weights: Mapping[str, float]
    """Weight of each rejected answer, by `vr`, `er`, `irr`; those of weight 0 are left out."""
    scores: Mapping[str, ScoreSpec]
    """What policy and reference score: `w`, the weighted rejected answers, and `w` on rejected inputs: `w_given_l`, or
    `w_given_video` and `w_given_audio` where each side is replaced by itself."""
    texts: Mapping[str, ScoreSpec]
    """The text prior's scores: `w` and the weighted rejected answers, on the text alone."""
    corrupted: Mapping[str, ScoreSpec] = field(default_factory=dict)
    """What the policy alone scores, without gradient, for MoD-DPO: each answer with the side replaced that the question
    is not about (`w_irrelevant`, ...) or that it is about (`w_relevant`, ...)."""

    @property
    def specs(self) -> Sequence[ScoreSpec]:
        """What the policy scores."""
        return (*self.scores.values(), *self.corrupted.values())


@dataclass(frozen=True, slots=True)
class InstructionExample:
    """An instruction row ready to be scored."""

    row_id: str
    clip: int
    spec: ScoreSpec
    partner: None = None

    @property
    def specs(self) -> Sequence[ScoreSpec]:
        """What the model scores."""
        return (self.spec,)


def preference_examples(
    rows: Sequence[PreferenceRow], store: FeatureStore, builder: SequenceBuilder, config: PreferenceConfig
) -> list[PreferenceExample]:
    """Join preference rows with the store.

    Raises:
        UnknownClipError: A row's clip is not in the store.
        DataError: A row asks about a modality that its clip does not have, has no negative of another
            emotion, or has no irrelevant answer although the settings give it a weight.
        PromptError: A sequence is longer than the model's context, or a text holds a special token. Every message
            names the row.
    """
    refuse_special(rows, builder.special)
    inputs = _inputs(rows, store, builder)
    partners = _partners(rows, inputs, store, builder, config) if config.replaces_inputs else None
    examples = []
    for index, (row, (clip, video, audio)) in enumerate(zip(rows, inputs, strict=True)):
        weights = _weights(row, config)
        chosen = ScoreSpec(row.question, row.chosen, video, audio, builder.subtitle(clip))
        scores = {"w": chosen, **{name: replace(chosen, answer=_answer(row, name)) for name in weights}}
        texts = {name: replace(spec, video=None, audio=None, subtitle=None) for name, spec in scores.items()}
        partner = None if partners is None else partners[index]
        corrupted: dict[str, ScoreSpec] = {}
        if partner is not None:
            other = _Other(partner, builder.subtitle(partner) if partner >= 0 else None)
            corrupted = _corrupted(scores, row.modality, other, config)
            scores |= _rejected_inputs(chosen, row.modality, other, config)
        builder.check((*scores.values(), *texts.values(), *corrupted.values()), f"Row {row.row_id}")
        examples.append(PreferenceExample(row.row_id, clip, partner, weights, scores, texts, corrupted))
    return examples


def instruction_examples(
    rows: Sequence[InstructionRow], store: FeatureStore, builder: SequenceBuilder
) -> list[InstructionExample]:
    """Join instruction rows with the store.

    Raises:
        UnknownClipError: A row's clip is not in the store.
        DataError: A row asks about a modality that its clip does not have.
        PromptError: A sequence is longer than the model's context, or a text holds a special token. Every message
            names the row.
    """
    refuse_special(rows, builder.special)
    examples = []
    for row, (clip, video, audio) in zip(rows, _inputs(rows, store, builder), strict=True):
        spec = ScoreSpec(row.question, row.answer, video, audio, builder.subtitle(clip))
        builder.check([spec], f"Row {row.row_id}")
        examples.append(InstructionExample(row.row_id, clip, spec))
    return examples


def _inputs(
    rows: Sequence[PreferenceRow | InstructionRow], store: FeatureStore, builder: SequenceBuilder
) -> list[Input]:
    """Each row's input; features that the clip does not have or the model does not take are None."""
    known = {clip_id: row for row, clip_id in enumerate(store.clips["clip_id"].to_pylist())}
    inputs = []
    for row in rows:
        clip = known.get(row.clip_id)
        if clip is None:
            windows = named_windows(row.clip_id, known)
            raise UnknownClipError(
                f"Row {row.row_id} names the clip {row.clip_id}, which the store does not hold"
                f"{f': {windows}' if windows else ''}."
            )
        if lacking := builder.lacking(clip, row.modality.streams):
            raise DataError(
                f"Row {row.row_id} asks about {row.modality} input and its clip {row.clip_id} has no {lacking[0]} "
                "features that the model can take; leave the row out."
            )
        video, audio = (clip if builder.available(side)[clip] else None for side in SIDES)
        inputs.append((clip, video, audio))
    if builder.shows_subtitles:
        clips = {clip for clip, *_ in inputs}
        without = sum(builder.subtitle(clip) is None for clip in clips)
        logger.info("%d of %d clips have no subtitle; their prompts leave the line out.", without, len(clips))
    return inputs


def _partners(
    rows: Sequence[PreferenceRow],
    inputs: Sequence[Input],
    store: FeatureStore,
    builder: SequenceBuilder,
    config: PreferenceConfig,
) -> list[int]:
    """What replaces each row's input: a clip, or the row's own features under noise."""
    if config.negatives in NOISE_RECIPES:
        return [noise_row(clip) for clip, _, _ in inputs]
    modalities = [row.modality for row in rows]
    if config.rejected_input != "prompt" or config.decouples:  # all that the clip has may be replaced
        modalities = [_held(video, audio) for _, video, audio in inputs]
    kinds = [modality.table for modality in modalities]
    tables = {modality.table: _table(store, builder, config.negatives, modality) for modality in set(modalities)}
    clips = [clip for clip, _, _ in inputs]
    if config.match_negatives:
        partners = choose_negatives(clips, kinds, tables, config.seed)
    else:
        partners = draw_negatives([row.row_id for row in rows], clips, kinds, tables, config.seed)
    for row, partner, kind in zip(rows, partners, kinds, strict=True):
        if partner < 0:
            raise DataError(_no_negative(store, row, kind, config.negatives))
    return partners


def _no_negative(store: FeatureStore, row: PreferenceRow, kind: str, recipe: str) -> str:
    """That a row's clip has no negative, why that is so in the store, and what to do."""
    try:
        attributes = negatives_attributes(store, recipe, kind)
    except StoreError:  # a table of somebody's own does not say how it was made
        attributes = {}
    clip = store.clip(int(store.rows([row.clip_id])[0]))
    if clip["emotion"] is None and not attributes.get("labelled"):
        raw = f" {clip['emotions_raw']!r} is none of the seven emotions" if clip["emotions_raw"] else " there is none"
        return (
            f"Row {row.row_id}: the clip {row.clip_id} has no {kind} negative, for want of a label:{raw}; correct the "
            "dataset's table, run `avem extract` and `avem cache negatives` again, or leave the row out."
        )
    reasons = attributes.get("why_none") or attributes.get("why_lacking") or ""
    cure = "add clips of other emotions and run `avem cache negatives`, or leave the row out"
    if SAME_SOURCE in reasons:
        cure = "run `avem cache negatives --same-source` if the data has one speaker only, or leave the row out"
    why = f" (of the store's clips, {reasons})" if reasons else ""
    return f"Row {row.row_id}: the clip {row.clip_id} has no {kind} negative in the recipe {recipe}{why}; {cure}."


def _held(video: int | None, audio: int | None) -> Modality:
    """The modality that is about all the features that a clip has; a checked row's clip has some."""
    if video is not None and audio is not None:
        return Modality.AUDIOVISUAL
    return Modality.AUDIO if video is None else Modality.VISUAL


def _table(store: FeatureStore, builder: SequenceBuilder, recipe: str, modality: Modality) -> npt.NDArray[np.int32]:
    """Mined negatives, [clips, K], -1 where there is none or where it has no features of that kind."""
    table: npt.NDArray[np.int32] = np.asarray(store.negatives(recipe, modality))
    usable = np.ones(len(store.clips), dtype=np.bool_)
    for side, taken in zip(SIDES, builder.takes, strict=True):
        if taken and side in modality.streams:
            usable &= builder.available(side)
    return np.where((table >= 0) & usable[table], table, -1)


@dataclass(frozen=True, slots=True)
class _Other:
    """The clip that sides are taken from."""

    clip: int
    """Its row, or a negative number for noise."""
    subtitle: str | None
    """What is said in it; nothing is said in sound that is noise."""


def _rejected_inputs(
    chosen: ScoreSpec, modality: Modality, other: _Other, config: PreferenceConfig
) -> dict[str, ScoreSpec]:
    """y_w on rejected inputs: Eq. 5 replaces what the prompt asks about, Eq. 4 both, OmniDPO each by itself."""
    if config.lambda_av == 0:
        return {}
    if config.rejected_input == "each":
        return {f"w_given_{side}": _replaced(chosen, [side], other) for side in _sides(chosen)}
    sides = Modality.AUDIOVISUAL.streams if config.rejected_input == "both" else modality.streams
    return {"w_given_l": _replaced(chosen, sides, other)}


def _corrupted(
    scores: Mapping[str, ScoreSpec], modality: Modality, other: _Other, config: PreferenceConfig
) -> dict[str, ScoreSpec]:
    """Each answer with the side replaced that the question is not about, and with the one that it is about."""
    found: dict[str, ScoreSpec] = {}
    for name, spec in scores.items():
        irrelevant = [side for side in _sides(spec) if side not in modality.streams]
        if config.invariance and irrelevant:
            found[f"{name}_irrelevant"] = _replaced(spec, irrelevant, other)
        if config.sensitivity:
            found[f"{name}_relevant"] = _replaced(spec, modality.streams, other)
    return found


def _sides(spec: ScoreSpec) -> list[Side]:
    """Sides that a spec shows."""
    shown: dict[Side, int | None] = {"video": spec.video, "audio": spec.audio}
    return [side for side in SIDES if shown[side] is not None]


def _replaced(spec: ScoreSpec, sides: Collection[Side], other: _Other) -> ScoreSpec:
    """A spec with some of the sides that it shows taken from another clip.

    A subtitle goes with the sound: otherwise the text would still say what is no longer heard.
    """
    return replace(
        spec,
        subtitle=other.subtitle if "audio" in sides else spec.subtitle,
        video=other.clip if "video" in sides and spec.video is not None else spec.video,
        audio=other.clip if "audio" in sides and spec.audio is not None else spec.audio,
    )


def _weights(row: PreferenceRow, config: PreferenceConfig) -> dict[str, float]:
    weights = config.rejected_weights
    if config.rejected == "random":
        names = sorted(weights)
        return {names[draw(config.seed, row.row_id, choices=len(names))]: 1.0}
    return weights


def _answer(row: PreferenceRow, name: str) -> str:
    answer: str | None = getattr(row, REJECTED_FIELDS[name])
    if answer is None:
        raise DataError(f"Row {row.row_id} has no {REJECTED_FIELDS[name]}; add one, or set beta_{name}=0.")
    return answer
