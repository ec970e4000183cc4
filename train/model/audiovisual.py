"""`AudiovisualLM`: a causal language model that reads projected video and audio features."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import torch
from torch import nn

from avem.errors import FingerprintError, PromptError, SettingError
from avem.train.families.base import FamilyModel
from avem.train.families.generic.files import load_trained, read_config
from avem.train.model import saving
from avem.train.model.card import model_card
from avem.train.model.config import AudiovisualConfig
from avem.train.model.embedding import by_shape, embedding_table
from avem.train.model.media import SIDES, FamilyStream, Group, MediaEmbedding, Piece, Side
from avem.train.model.projectors import AudioProjector, VideoProjector, build_audio_projector, build_video_projector
from avem.train.model.prompts import EncodedPrompt, PromptFormat
from avem.train.model.sequences import ScoredSequence, check_width
from avem.train.prefix.attention import use_prefix_tree_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

Layout: TypeAlias = tuple[int, int]
"""Placeholders of a side in prompts, and the tokens that they stand for."""
Projector = TypeVar("Projector", VideoProjector, AudioProjector)


class AudiovisualLM(FamilyModel):
    """Any Hugging Face causal language model with projectors for video and audio features and a prompt format.

    Args:
        language_model: A transformers model for causal language modelling.
        tokenizer: Its tokenizer.
        config: Projectors, prompt format, expected features.
    """

    def __init__(
        self, language_model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: AudiovisualConfig
    ) -> None:
        super().__init__(language_model, tokenizer)
        width = embedding_table(language_model).embedding_dim
        self.config = config
        self.video_projector = build_video_projector(config, width)
        self.audio_projector = build_audio_projector(config, width)
        self.avere_settings: dict[str, Any] = {}
        """The `config.json` of the AVERE checkpoint that the model comes from, if it does."""
        use_prefix_tree_attention(language_model)

    @classmethod
    def create(
        cls,
        language_model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: AudiovisualConfig,
        seed: int = 0,
    ) -> AudiovisualLM:
        """Put a language model together with projectors of random weights, in its dtype and on its device.

        Args:
            language_model: A transformers model for causal language modelling.
            tokenizer: Its tokenizer.
            config: Projectors, prompt format, expected features.
            seed: Decides the projectors' weights; the global generators are left as they were.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(language_model, tokenizer, config)
        weight = embedding_table(language_model).weight
        return model.to(device=weight.device, dtype=weight.dtype)

    takes_subtitles = True

    @property
    def family(self) -> str:
        """`avere` for a model that comes from an AVERE checkpoint, else `generic`."""
        return "avere" if self.avere_settings else "generic"

    @property
    def streams(self) -> tuple[FamilyStream, ...]:
        """One stream a side, of any encoder; a store may lack either."""
        return tuple(FamilyStream(side, side, side, width=self._width(side) or None, required=False) for side in SIDES)

    @property
    def context_length(self) -> int:
        """Longest sequence in positions, media included."""
        return min(self.config.context_length or 1 << 30, super().context_length)

    def takes(self, side: Side) -> bool:
        """Whether there is a projector for this side."""
        return bool(self.projectors(side))

    def projectors(self, side: Side) -> Sequence[nn.Module]:
        """The side's projector, if there is one."""
        projector = self.video_projector if side == "video" else self.audio_projector
        return () if projector is None else (projector,)

    def add_audio_projector(self, kind: str, width: int, seed: int = 0) -> None:
        """Give a model without one an audio projector of random weights, in the language model's dtype and device.

        Args:
            kind: `qformer` or `stack-mlp`.
            width: Channels C of the audio features.
            seed: Decides the weights; the global generators are left as they were.

        Raises:
            SettingError: The model has an audio projector, or there is no such kind.
        """
        if self.audio_projector is not None:
            raise SettingError("The model has an audio projector already; leave new_audio_projector out.")
        self.config = replace(self.config, audio_projector=kind, audio_hidden_size=width, audio_fingerprint="")
        table = embedding_table(self.language_model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            projector = build_audio_projector(self.config, table.embedding_dim)
        self.audio_projector = _present(projector, "audio").to(device=table.weight.device, dtype=table.weight.dtype)

    def take_config(self, config: AudiovisualConfig) -> tuple[str, ...]:
        """Take over the configuration of a run on this model.

        Args:
            config: Of the run, which may have added an audio projector.

        Returns:
            Names of the parameters that the model did not have before; they are to be read from the run's files.
        """
        known = set(dict(self.named_parameters()))
        if self.audio_projector is None and config.audio_projector != "none":
            self.config = config
            self.add_audio_projector(config.audio_projector, config.audio_hidden_size)
        self.config = config
        return tuple(name for name, _ in self.named_parameters() if name not in known)

    def project_video(self, features: torch.Tensor) -> torch.Tensor:
        """Video features `[B, T, N, C]`, any float dtype and device, to tokens `[B, T*N, H]`.

        Raises:
            FingerprintError: C is not the width the projector was made for.
        """
        projector = _present(self.video_projector, "video")
        check_width("video", features, self.config.video_hidden_size)
        tokens: torch.Tensor = projector(features.to(self.device, non_blocking=True))
        return tokens

    def project_audio(self, features: torch.Tensor) -> torch.Tensor:
        """Audio features `[B, S, C]`, any float dtype and device, to tokens `[B, W, H]`.

        Raises:
            FingerprintError: C is not the width the projector was made for.
        """
        projector = _present(self.audio_projector, "audio")
        check_width("audio", features, self.config.audio_hidden_size)
        tokens: torch.Tensor = projector(features.to(self.device, non_blocking=True))
        return tokens

    def video_token_count(self, frames: int, tokens_per_frame: int) -> int:
        """Tokens that video features `[T, N, C]` become, from T and N."""
        return _present(self.video_projector, "video").token_count(frames, tokens_per_frame)

    def audio_token_count(self, steps: int) -> int:
        """Tokens that audio features `[S, C]` become, from S."""
        return _present(self.audio_projector, "audio").token_count(steps)

    def layout(self, side: Side, group: Group) -> Layout:
        """How many placeholders a side has in prompts, and how many tokens it becomes.

        Raises:
            FingerprintError: The features have another width than the projector was made for.
            PromptError: There is no projector for this side.
        """
        features = group[side].features
        check_width(side, features, self._width(side))
        if side == "video":
            return features.shape[-3], self.video_token_count(features.shape[-3], features.shape[-2])
        return 1, self.audio_token_count(features.shape[-2])

    def encode(
        self, question: str, answer: str | None, video: Hashable | None, audio: Hashable | None, **options: Any
    ) -> EncodedPrompt:
        """Video, audio, `subtitle`, question, answer, as `prompt_format` (by default the model's own) lays them out."""
        style = PromptFormat(self.tokenizer, options.get("prompt_format") or self.config.prompt_format)
        frames = 0 if video is None else cast("Layout", video)[0]
        subtitle = options.get("subtitle")
        encoded = style.encode(question, answer, frames=frames, audio=audio is not None, subtitle=subtitle)
        return replace(encoded, video=_pieces(video), audio=_pieces(audio))

    def pieces(self, sequence: ScoredSequence, side: Side) -> Sequence[Piece]:
        """What a sequence's placeholders stand for, from the shapes of its features where it does not say so."""
        if sequence.pieces is not None:
            return sequence.pieces[side]
        medium = sequence.medium(side)
        return () if medium is None else _pieces(self.layout(side, self.group(side, medium)))

    def media_embeddings(self, side: Side, groups: Sequence[Group]) -> list[MediaEmbedding]:
        """Project every clip's features, those of one shape together."""
        project = self.project_video if side == "video" else self.project_audio
        return [MediaEmbedding(tokens) for tokens in by_shape([group[side].features for group in groups], project)]

    def end_ids(self) -> set[int]:
        """Ids that end an answer in the model's prompt format."""
        return PromptFormat(self.tokenizer, self.config.prompt_format).end_ids()

    def save(
        self,
        directory: str | Path,
        *,
        licence: str | None = None,
        provenance: dict[str, Any] | None = None,
        language_model: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Write the whole model in avem's layout; see `avem.train.model.saving.save_model`."""
        saving.save_model(
            self, Path(directory), licence=licence, provenance=provenance or {}, language_model=language_model
        )

    def load_trained(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Read what a run trained on this model; see `avem.train.families.generic.files.load_trained`."""
        load_trained(self, folder, settings)

    def adopt_settings(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Take over the configuration of a run on this model, without weights."""
        self.take_config(read_config(folder, settings))

    def card(self, licence: str, provenance: dict[str, Any]) -> str:
        """The model card's text; see `avem.train.model.card.model_card`."""
        return model_card(self, licence, provenance)

    def identity(self) -> dict[str, Any]:
        """Projectors, prompt format and expected features."""
        return {"audiovisual": self.config.to_json()}

    def expected_digest(self, name: str) -> str:
        """Digest of the features that the model was trained on; empty where it is not known."""
        digest: str = getattr(self.config, f"{name}_fingerprint")
        return digest

    def record_features(self, digests: Mapping[str, str]) -> None:
        """Keep the digests of the sides that have a projector in the configuration."""
        taken = {f"{name}_fingerprint": digest for name, digest in digests.items() if self._width(name)}
        self.config = AudiovisualConfig.from_json({**self.config.to_json(), **taken})

    def use_prompt_format(self, name: str) -> None:
        """Use `vicuna_v1`, `llava_v1` or `chat` from now on.

        Raises:
            SettingError: There is no such format.
        """
        self.config = replace(self.config, prompt_format=name)

    def check_features(self, name: str, digest: str) -> None:
        """Refuse features other than those the model was trained on.

        Args:
            name: `video` or `audio`.
            digest: SHA-256 of the store's fingerprint for this stream, from `avem.files.json_sha256`.

        Features that the result of a run can't be compared with, since the run recorded none, are logged.

        Raises:
            FingerprintError: The model names another digest.
        """
        expected = self.expected_digest(name)
        if not expected and self.was_trained and self._width(name):
            logger.warning(
                "%s does not say which %s features it was trained on, so the store's (fingerprint %s) could not be "
                "checked; make sure that they come from the same encoder.",
                self.source or "The model",
                name,
                digest[:12],
            )
        if expected and digest != expected:
            raise FingerprintError(
                f"The store's {name} features (fingerprint {digest[:12]}) are not those that the model was trained on "
                f"({expected[:12]}); extract the clips with the same encoder and settings."
            )

    def _width(self, side: str) -> int:
        """Channels of a side's features; 0 where the model does not read it."""
        return int(getattr(self.config, f"{side}_hidden_size"))


def _pieces(layout: Hashable | None) -> tuple[Piece, ...]:
    """A side's tokens shared out among its placeholders, in order and as evenly as can be (the first get more)."""
    if layout is None:
        return ()
    placeholders, tokens = cast("Layout", layout)
    each, more = divmod(tokens, placeholders)
    sizes = [each + (number < more) for number in range(placeholders)]
    return tuple(Piece(end - size, size) for end, size in zip(accumulate(sizes), sizes, strict=True))


def _present(projector: Projector | None, kind: str) -> Projector:
    if projector is None:
        raise PromptError(f"This model takes no {kind}; leave the {kind} features out.")
    return projector
