"""Contrastive decoding (Leng et al., 2024) on diffused features: the training-free rival in Table 5's last row.

An option gains what it owes to the clip: `(1 + alpha) log p(y | a, v, x) - alpha log p(y | a', v', x)`, where a' and v'
are the clip's features under noise. Options that are far from plausible on the clip itself are out of the question.
Noise is added to features, since encoders are not in the loop; the paper adds it to frames and sound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from avem.errors import SettingError
from avem.evaluate.bench import bench_questions, place_clips
from avem.evaluate.emorealm.questions import prompt_text
from avem.evaluate.emorealm.results import BenchResult
from avem.evaluate.emorealm.statistics import RESAMPLES
from avem.evaluate.predict.feature_model import STREAMS, Ask, Asker, options_of
from avem.files import json_sha256
from avem.records import Question
from avem.train.data.noise import FeatureNoise

if TYPE_CHECKING:
    from avem.cache.store import FeatureStore
    from avem.train.model.audiovisual import AudiovisualLM


@dataclass(frozen=True, slots=True)
class ContrastOptions:
    """Strength of the contrast; the defaults are VCD's."""

    alpha: float = 1.0
    """How much of the diffused clip's preference is taken away."""
    beta: float = 0.1
    """An option stays in only with at least this share of the likeliest option's probability."""
    seed: int = 0
    """Of the noise."""

    def __post_init__(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            SettingError: `alpha` is negative, or `beta` is not a share.
        """
        if self.alpha < 0 or not 0 <= self.beta <= 1:
            raise SettingError("Contrastive decoding needs alpha >= 0 and 0 <= beta <= 1.")


def contrast(clean: Sequence[float], noisy: Sequence[float], options: ContrastOptions) -> list[float]:
    """Contrasted scores of options.

    Args:
        clean: Log-probability of each option on the clip, in nats.
        noisy: The same on the diffused clip.
        options: Strength.

    Returns:
        Scores whose softmax is the contrasted distribution; an implausible option is 1000 nats below, which is finite
        and so survives JSON.
    """
    floor = max(clean) + (math.log(options.beta) if options.beta else -math.inf)
    return [
        (1 + options.alpha) * own - options.alpha * other - (0.0 if own >= floor else 1000.0)
        for own, other in zip(clean, noisy, strict=True)
    ]


class ContrastAsker(Asker):
    """Weighs options by contrast with the diffused clip; takes the arguments of `Asker`, and the strength.

    The clip and its diffused twin go through one call, the questions on a clip share both.
    """

    ways: tuple[str, ...] = ("likelihood",)

    def __init__(
        self,
        model: AudiovisualLM,
        store: FeatureStore,
        style: str,
        options: ContrastOptions,
        streams: Sequence[str] = STREAMS,
    ) -> None:
        super().__init__(model, store, style, 1, streams)
        self.options = options
        self._alter = FeatureNoise("diffused", options.seed)

    def ask(self, question: Question, way: str, place: int | None) -> Ask:
        """Name one thing to ask; the key covers the strength and the noise too."""
        plain = super().ask(question, way, place)
        return Ask(question, way, place, json_sha256({"plain": plain.key, "contrast": asdict(self.options)}))

    def answer(self, asks: Sequence[Ask]) -> dict[str, dict[str, Any]]:
        """Ask the model, all in one call; see `Asker.answer`."""
        clean = {row: self.media(row) for row in dict.fromkeys(ask.place for ask in asks)}
        noisy = {
            row: (self._diffuse("video", row, media[0]), self._diffuse("audio", row, media[1]))
            for row, media in clean.items()
        }
        prompts = [(prompt_text(ask.question, self.style), ask.place) for ask in asks]
        options = [options_of(ask.question, self.style) for ask in asks]
        shown = [(text, *media[row]) for media in (clean, noisy) for text, row in prompts]
        values = self.weigh(shown, [*options, *options])
        return {
            ask.key: {"id": ask.question.id, "way": ask.way, "logprobs": contrast(own, other, self.options)}
            for ask, own, other in zip(asks, values[: len(asks)], values[len(asks) :], strict=True)
        }

    def _diffuse(self, kind: str, row: int, features: torch.Tensor | None) -> torch.Tensor | None:
        return None if features is None else self._alter(kind, row, features)

    def about(self) -> dict[str, dict[str, Any]]:
        """As of the plain questioner, with the strength."""
        known = super().about()
        return {**known, "model": {**known["model"], "contrast": asdict(self.options)}}


def bench_contrast(
    model: AudiovisualLM,
    store: FeatureStore,
    questions: Sequence[Question],
    style: str,
    out_dir: Path,
    strength: ContrastOptions | None = None,
    *,
    name: str = "model",
    resamples: int = RESAMPLES,
) -> BenchResult:
    """Bench a model under contrastive decoding (Table 5's last row); see `avem.evaluate.bench.bench_emorealm`."""
    strength = strength or ContrastOptions()
    asker = ContrastAsker(model.eval(), store, style, strength)
    return bench_questions(
        asker,
        questions,
        place_clips(asker, questions),
        asker.ways,
        out_dir,
        name=name,
        resamples=resamples,
        seed=strength.seed,
    )
