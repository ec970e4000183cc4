"""Contrastive decoding (Leng et al., 2024) on diffused features: the training-free baseline in Table 5's last row.

An option is scored by `(1 + alpha) log p(y | a, v, x) - alpha log p(y | a', v', x)`, where a' and v' are the clip's
features under noise: what the option owes to the clip counts more. Options that are implausible on the clip itself are
excluded. Noise is added to features, because the bench runs no encoders; the paper adds it to frames and sound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avem.errors import SettingError
from avem.evaluate.bench import bench_questions
from avem.evaluate.bootstrap import RESAMPLES
from avem.evaluate.emorealm.questions import prompt_text
from avem.evaluate.emorealm.results import BenchResult
from avem.evaluate.predict.clips import resolve_clips
from avem.evaluate.predict.feature_model import FeaturePredictor, FeaturePrompt
from avem.evaluate.predict.predictor import STREAMS, Answer, PredictionRequest, options_of
from avem.files import json_sha256
from avem.records import Question
from avem.train.data.noise import FeatureNoise
from avem.train.data.streams import Alter
from avem.train.model.media import Medium
from avem.train.settings.diffusion import DIFFUSION_STEP, DIFFUSION_STEPS

if TYPE_CHECKING:
    from avem.cache import FeatureStore
    from avem.train.families.base import FamilyModel


@dataclass(frozen=True, slots=True)
class ContrastOptions:
    """Strength of the contrast; the defaults are VCD's."""

    alpha: float = 1.0
    """How strongly the diffused clip's scores are subtracted."""
    beta: float = 0.1
    """Options below this share of the likeliest option's probability are excluded."""
    seed: int = 0
    """Seed of the noise."""
    step: int = DIFFUSION_STEP
    """How much noise is added: a step of VCD's schedule, 0 to 999."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            SettingError: `alpha` is negative, `beta` is not a share, or there is no such step.
        """
        if not 0 <= self.step < DIFFUSION_STEPS:
            raise SettingError(f"VCD's schedule has the steps 0 to {DIFFUSION_STEPS - 1}, not {self.step}.")
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


class ContrastPredictor(FeaturePredictor):
    """Scores options by contrast with the diffused clip; takes the arguments of `FeaturePredictor`, and the strength.

    The clip and its diffused copy go through one call; the questions on a clip share both.
    """

    methods: tuple[str, ...] = ("likelihood",)

    def __init__(
        self,
        model: FamilyModel,
        store: FeatureStore,
        style: str,
        options: ContrastOptions,
        streams: Sequence[str] = STREAMS,
        *,
        subtitles: bool = False,
    ) -> None:
        super().__init__(model, store, style, 1, streams, subtitles=subtitles)
        self.options = options
        self._alter = FeatureNoise("diffused", options.seed, options.step)

    def request(self, question: Question, method: str, position: int | None) -> PredictionRequest:
        """Describe one prediction; the key covers the strength and the noise too."""
        plain = super().request(question, method, position)
        key = json_sha256({"plain": plain.key, "contrast": asdict(self.options)})
        return PredictionRequest(question, method, position, key)

    def predict_batch(self, requests: Sequence[PredictionRequest]) -> dict[str, Answer]:
        """Predict with one call of the model; see `FeaturePredictor.predict_batch`."""
        clean = {row: self.media(row) for row in dict.fromkeys(request.position for request in requests)}
        noisy = {row: self._diffused(row) for row in clean}
        texts = [(prompt_text(request.question, self.style), request.position) for request in requests]
        options = [options_of(request.question, self.style) for request in requests]
        prompts = [
            FeaturePrompt(text, *media[row], self.subtitle(row)) for media in (clean, noisy) for text, row in texts
        ]
        values = self.option_logprobs(prompts, [*options, *options])
        half = len(requests)
        return {
            request.key: Answer(logprobs=tuple(contrast(own, other, self.options)))
            for request, own, other in zip(requests, values[:half], values[half:], strict=True)
        }

    def _diffused(self, row: int | None) -> tuple[Medium | None, Medium | None]:
        """A clip's sides under noise, as `media` gives them."""
        if row is None:
            return None, None
        noise: dict[int, Alter] = {0: lambda name, features: self._alter(name, row, features)}
        video, audio = (
            self._streams.read(side, [row], alter=noise)[0] if self.available[side][row] else None for side in STREAMS
        )
        return video, audio

    def about(self) -> dict[str, dict[str, Any]]:
        """As of the plain predictor, with the strength."""
        known = super().about()
        return {**known, "model": {**known["model"], "contrast": asdict(self.options)}}


def bench_contrast(
    model: FamilyModel,
    store: FeatureStore,
    questions: Sequence[Question],
    style: str,
    out_dir: Path,
    strength: ContrastOptions | None = None,
    *,
    name: str = "model",
    resamples: int = RESAMPLES,
    subtitles: bool = False,
) -> BenchResult:
    """Bench a model under contrastive decoding (Table 5's last row); see `avem.evaluate.bench.bench_emorealm`."""
    strength = strength or ContrastOptions()
    predictor = ContrastPredictor(model.eval(), store, style, strength, subtitles=subtitles)
    clips = resolve_clips(store.clips, questions).with_media(predictor.has_media)
    return bench_questions(
        predictor, questions, clips, predictor.methods, out_dir, name=name, resamples=resamples, seed=strength.seed
    )
