"""One model's answers, and what they depend on, for clips whose features are in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch

from avem.errors import DataError, FingerprintError
from avem.evaluate.predict.feature_model import without_end
from avem.tools.ask.emotions import EmotionQuestion
from avem.tools.ask.memory import MemoryStore
from avem.tools.ask.results import Condition, PartAnswer, Reading
from avem.train.answers import TOKENS_PER_BATCH, score_specs
from avem.train.data.features import ClipFeatures
from avem.train.packing.epoch import pack_specs
from avem.train.packing.specs import ScoreSpec, SequenceBuilder

if TYPE_CHECKING:
    from avem.cache import FeatureStore
    from avem.train.families.base import FamilyModel
    from avem.train.model.media import Medium
    from avem.train.model.sequences import ScoredSequence

Rows = tuple[int | None, int | None]
"""Row of the video side and of the audio side; None for a side that is not shown."""
WHOLE = (
    "The model was never trained on clips without one of their streams, so what it says without sound or picture is "
    "further from what it knows than the rest."
)
OPTIONS = (
    "Name the encoders that {model} was trained with (--video-encoder, --audio-encoder; --fps, --frames, --min-pixels "
    "and --max-pixels for Qwen-Omni), or a store that holds the clip with --cache"
)
PROMPTS_PER_CALL = 4
"""Prompts that are answered together: each has its own media."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A model over a few clips in memory.

    Args:
        model: Of any family.
        builder: Made for the model and the clips.
    """

    model: FamilyModel
    builder: SequenceBuilder

    @classmethod
    def over(cls, model: FamilyModel, store: MemoryStore) -> Evidence:
        """The model over a store in memory, once all its clips are in.

        Raises:
            FingerprintError: A stream that the model needs is missing, or it was trained on other features.
        """
        found = cls(model, SequenceBuilder(model, cast("FeatureStore", store)))
        for name, digest in found.builder.streams.digests().items():
            model.check_features(name, digest)
        return found

    def conditions(self, row: int, other: int | None = None) -> dict[Condition, Rows]:
        """What a clip can be shown as: as it is, without either side, without both, with another clip's.

        Args:
            row: The clip.
            other: The clip whose sound and picture are put in the place of its own.

        Raises:
            DataError: The clip lacks what the model needs.
        """
        if lacking := self.builder.lacking(row):
            raise DataError(f"it has no {lacking[0]} features, which the model needs")
        video, audio = (self._side(side, row) for side in ("video", "audio"))
        if video is None and audio is None:
            raise DataError("it has neither picture nor sound that the model reads")
        found: dict[Condition, Rows] = {Condition.FULL: (video, audio)}
        if video is not None and audio is not None:
            found |= {Condition.NO_SOUND: (video, None), Condition.NO_PICTURE: (None, audio)}
        found[Condition.TEXT] = (None, None)
        if other is not None:
            their_video, their_audio = (self._side(side, other) for side in ("video", "audio"))
            if audio is not None and their_audio is not None:
                found[Condition.OTHER_SOUND] = (video, their_audio)
            if video is not None and their_video is not None:
                found[Condition.OTHER_PICTURE] = (their_video, audio)
        return found

    def answer(self, question: str, conditions: Mapping[Condition, Rows], max_new_tokens: int) -> PartAnswer:
        """Answer a question under every condition, and score the answer to the clip as it is under all of them.

        The score is that of `avem.train.score_answers`: the log-probability of the whole answer with its end.

        Raises:
            PromptError: The question holds a special token, or does not fit the context.
        """
        prompts = [self.model.prompt(question, *self.media(rows)) for rows in conditions.values()]
        with torch.inference_mode():
            replies = self.model.generate(prompts, max_new_tokens=max_new_tokens, batch_size=PROMPTS_PER_CALL)
        written = dict(zip(conditions, replies, strict=True))
        full = written[Condition.FULL]
        scores = self.scores(question, full, list(conditions.values())) if full else [None] * len(conditions)
        readings = {
            condition: Reading(written[condition], score) for condition, score in zip(conditions, scores, strict=True)
        }
        length = len(self.model.tokenizer(full, add_special_tokens=False)["input_ids"])
        return PartAnswer(readings, cut=length >= max_new_tokens)

    @torch.inference_mode()
    def scores(self, question: str, answer: str, shown: Sequence[Rows]) -> list[float | None]:
        """Log-probability of one answer under several conditions, in nats."""
        specs = [ScoreSpec(question, answer, video, audio) for video, audio in shown]
        self.builder.check(specs, "The question")
        features = ClipFeatures(self.builder.streams, specs, self.model.device, keep_mb=0)
        found: dict[ScoreSpec, float] = {}
        for batch in pack_specs(self.builder, list(dict.fromkeys(specs)), TOKENS_PER_BATCH):
            values = score_specs(self.model, self.builder, batch, features.media(batch))
            found.update(zip(batch, values.double().tolist(), strict=True))
        return [found[spec] for spec in specs]

    @torch.inference_mode()
    def emotions(self, asked: EmotionQuestion, rows: Rows) -> tuple[float, ...]:
        """Log-probability of each emotion under one condition: that the reply begins with one of its answers.

        This is the likelihood that `avem bench ravdess` scores: the end of the answer is left out.
        """
        ends = set(self.model.tokenizer.all_special_ids)
        video, audio = self.media(rows)
        sequences: list[ScoredSequence] = [
            without_end(self.model.sequence(asked.question, answer, video, audio), ends)
            for answers in asked.answers
            for answer in answers
        ]
        return asked.pooled(self.model.response_logprobs(sequences).double().tolist())

    def media(self, rows: Rows) -> tuple[Medium | None, Medium | None]:
        """Video and audio side of a condition; None for one that is not shown."""
        video, audio = rows
        return (
            None if video is None else self.builder.streams.read("video", [video])[0],
            None if audio is None else self.builder.streams.read("audio", [audio])[0],
        )

    def _side(self, side: str, row: int) -> int | None:
        known = self.builder.available("video" if side == "video" else "audio")
        return row if known[row] else None


def explained(error: FingerprintError, model: str, advice: str = "") -> FingerprintError:
    """A mismatch between model and features, said for a command that makes the features itself.

    Args:
        error: What does not fit.
        model: The model, as the command named it.
        advice: What is known to fit; empty for the options that may.
    """
    known = advice[:1].upper() + advice[1:]
    return FingerprintError(f"{str(error).rstrip('.')}. {known or OPTIONS.format(model=model)}.")
