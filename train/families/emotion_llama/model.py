"""`EmotionLlama`: Llama 2 with its released adapters, a frame, and vectors of face, motion and sound."""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from avem.cache.filled import zero_fingerprint
from avem.errors import CheckpointError, FingerprintError, PromptError, SettingError
from avem.files import json_sha256
from avem.train.families.base import FamilyModel
from avem.train.families.emotion_llama import files
from avem.train.families.emotion_llama.config import FAMILY, EmotionConfig
from avem.train.families.emotion_llama.projections import (
    FACE,
    FRAME,
    MOTION,
    SOUND,
    STREAMS,
    Projections,
    ProjectionSizes,
)
from avem.train.families.emotion_llama.prompts import EmotionPrompt, Turn, clean_answer
from avem.train.model.embedding import by_shape, embedding_table
from avem.train.model.media import FamilyStream, Group, MediaEmbedding, Medium, Side, StreamRow
from avem.train.model.prompts import EncodedPrompt
from avem.train.prefix.attention import use_prefix_tree_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

IMPORTED = (
    "import a folder of one .npy a clip with `avem cache import --cache {store} --dataset NAME "
    "--stream {name}=FOLDER`, or fill it with `avem extract CLIPS --for {model} --cache {store} --fill-missing zeros`"
)
"""What to do about a stream that no released encoder makes."""
SIDE_STREAMS: dict[Side, tuple[str, ...]] = {"video": (FRAME, FACE, MOTION), "audio": (SOUND,)}
"""A question about the picture is about the frame, the face and the motion."""


class EmotionLlama(FamilyModel):
    """Emotion-LLaMA on cached features.

    Args:
        language_model: The Llama, with or without the released adapters.
        tokenizer: Its tokenizer.
        sizes: Widths of the projections.
        config: Adapters, prompts, expected features.
    """

    def __init__(
        self,
        language_model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        sizes: ProjectionSizes,
        config: EmotionConfig,
    ) -> None:
        super().__init__(language_model, tokenizer)
        table = embedding_table(language_model)
        if table.embedding_dim != sizes.hidden:
            raise CheckpointError(
                f"The projections give tokens of {sizes.hidden} channels and the language model reads "
                f"{table.embedding_dim}; give the Llama that the checkpoint was trained on."
            )
        if len(tokenizer) != table.num_embeddings:
            raise CheckpointError(
                f"The language model knows {table.num_embeddings} tokens and its tokenizer {len(tokenizer)}; give "
                f"Llama weights and a tokenizer of one vocabulary, in one folder."
            )
        self.config = config
        self.projections = Projections(sizes)
        use_prefix_tree_attention(language_model)

    # ---- streams and prompts --------------------------------------------------------------------------------------

    takes_subtitles = True

    whole_clips = True
    """The released model never saw a clip without one of its streams."""

    @property
    def family(self) -> str:
        """`emotion_llama`."""
        return FAMILY

    @property
    def streams(self) -> tuple[FamilyStream, ...]:
        """Frame, face, motion and sound; of those whose encoder came with the model, the weights are known."""
        sizes = self.projections.sizes
        widths = {FRAME: sizes.frame, FACE: sizes.face, MOTION: sizes.motion, SOUND: sizes.sound}
        return tuple(
            FamilyStream(
                name,
                name.split("/")[0],
                side,
                expect=self._expected(name),
                width=widths[name],
                hint=IMPORTED if name in (FACE, MOTION) else "",
            )
            for side, names in SIDE_STREAMS.items()
            for name in names
        )

    def _expected(self, name: str) -> dict[str, str]:
        """What the fingerprint of a stream has to say."""
        weights = self.config.encoders.get(name)
        return {"encoder": name.split("/")[1], **({"weights_sha256": weights} if weights else {})}

    def layout(self, side: Side, group: Group) -> int:
        """Tokens of a side: those of the image alone for the video side, whose vectors are one each.

        Raises:
            PromptError: A stream of the side is missing.
            FingerprintError: A stream has another width than the model was made for.
        """
        for name in SIDE_STREAMS[side]:
            if name not in group:
                raise PromptError(
                    f"The clip has no {name}; Emotion-LLaMA reads {', '.join(STREAMS)}. Extract or import the stream."
                )
            self.projections.check(name, group[name].features)
        return self.projections.image_count(group[FRAME].features.shape[-2]) if side == "video" else 1

    def encode(
        self, question: str, answer: str | None, video: Hashable | None, audio: Hashable | None, **options: Any
    ) -> EncodedPrompt:
        """Lay out one turn; see `avem.train.families.emotion_llama.prompts`.

        Args:
            question: The question alone.
            answer: The response, which is cleaned first where the configuration says so.
            video: Number of the image's tokens; None without the video side.
            audio: Anything but None with the audio side.
            **options: `prompt_format`, `task` and `subtitle`.
        """
        style = self.config.generate_format if answer is None else self.config.prompt_format
        cleaned = clean_answer(answer) if answer is not None and self.config.clean_answers else answer
        count = video if isinstance(video, int) else None
        task, subtitle = options.get("task") or self.config.task, options.get("subtitle")
        turn = Turn(question, cleaned, task, subtitle, count, audio is not None)
        prompts = EmotionPrompt(self.tokenizer, self.config.max_answer_tokens)
        return prompts.encode(turn, options.get("prompt_format") or style)

    def end_ids(self) -> set[int]:
        """The end of sequence."""
        return {int(self.tokenizer.eos_token_id)}

    def media_embeddings(self, side: Side, groups: Sequence[Group]) -> list[MediaEmbedding]:
        """Project a side of several clips: image, face, motion and CLS of the video side, or the sound."""
        if side == "audio":
            return [MediaEmbedding(tokens) for tokens in self._vectors(SOUND, groups)]
        frames = by_shape([self._row(group, FRAME) for group in groups], self.projections.project_frame)
        sides = zip(frames, self._vectors(FACE, groups), self._vectors(MOTION, groups), strict=True)
        return [MediaEmbedding(torch.cat([seen[:-1], face, motion, seen[-1:]])) for seen, face, motion in sides]

    def _vectors(self, name: str, groups: Sequence[Group]) -> list[torch.Tensor]:
        """A stream's tokens `[1, H]` of each clip."""
        return by_shape(
            [self._row(group, name) for group in groups], lambda rows: self.projections.project_vector(name, rows)
        )

    def _row(self, group: Group, name: str) -> torch.Tensor:
        return group[name].features.to(self.device, non_blocking=True)

    def media_tokens(self, streams: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """All media tokens of some clips.

        Args:
            streams: `frame/eva_g` [B, T, C]; `face/mae`, `motion/videomae` and `audio/hubert` [B, C].

        Returns:
            `[B, N + 4, H]`: image, face, motion, sound, CLS.

        Raises:
            PromptError: A stream is missing.
            FingerprintError: A stream has another width than the model was made for.
        """
        tokens: torch.Tensor = self.projections({name: rows.to(self.device) for name, rows in streams.items()})
        return tokens

    def _sides(
        self,
        video: Medium | None,
        audio: Medium | None,
        streams: Mapping[str, torch.Tensor | StreamRow] | None,
    ) -> dict[Side, Medium]:
        """Both sides from rows by name; a batch axis of one is dropped, and no stream may be missing."""
        if streams is None:
            return super()._sides(video, audio, None)
        if missing := [name for name in STREAMS if name not in streams]:
            raise PromptError(
                f"The stream {missing[0]} is missing; Emotion-LLaMA reads {', '.join(STREAMS)}, so give all of them."
            )
        return super()._sides(None, None, {name: _single(name, row) for name, row in streams.items()})

    # ---- training -------------------------------------------------------------------------------------------------

    def projectors(self, side: Side) -> Sequence[nn.Module]:
        """The side's linear layers; `ln_vision` stays as it is."""
        layers = self.projections
        if side == "audio":
            return (layers.feats_llama_proj3,)
        return (layers.llama_proj, layers.feats_llama_proj1, layers.feats_llama_proj2, layers.cls_tk_llama_proj)

    def lora_targets(self) -> dict[str, Any]:
        """The layers that the released adapters are on."""
        return {"target_modules": list(self.config.lora_targets or files.TARGETS)}

    def add_lora(self, rank: int = 8, scale: float = 4.0, *, dropout: float = 0.0, seed: int = 0) -> None:
        """Freeze everything and make adapters trainable.

        Of the released adapters' own rank and scale, those are trained further. Otherwise they are folded into the
        language model, and new ones are added to the same layers.
        """
        if self.peft_model is None or not self._is_own_lora(rank, scale) or dropout:
            super().add_lora(rank, scale, dropout=dropout, seed=seed)
            return
        self.requires_grad_(False)
        for name, parameter in self.peft_model.named_parameters():
            parameter.requires_grad_(".lora_" in name)

    def check_lora(self, rank: int, scale: float, *, new: bool) -> None:
        """Refuse another rank or scale than the released adapters', unless new ones are asked for.

        A run's result may have any: its adapters are folded in, as those of every family.
        """
        config = self.config
        if new or self.was_trained or not config.lora_rank or self._is_own_lora(rank, scale):
            return
        layers, source = " and ".join(config.lora_targets), self.source or "The checkpoint"
        own = f"lora_rank={config.lora_rank} and lora_scale={config.lora_scale:g}"
        raise SettingError(
            f"{source} has adapters of rank {config.lora_rank} and alpha {config.lora_alpha:g} on {layers}, and "
            f"lora_rank={rank} with lora_scale={scale:g} means alpha {rank * scale:g}; set {own} to train them "
            "further, or lora_new=true to fold them into the language model and train new ones."
        )

    def _is_own_lora(self, rank: int, scale: float) -> bool:
        return rank == self.config.lora_rank and math.isclose(scale, self.config.lora_scale)

    def merge(self) -> None:
        """Fold the adapters into the language model's weights; the configuration then names none."""
        super().merge()
        self.config = replace(self.config, lora_rank=0, lora_alpha=0.0)

    # ---- files ----------------------------------------------------------------------------------------------------

    def save(
        self,
        directory: str | Path,
        *,
        licence: str | None = None,
        provenance: dict[str, Any] | None = None,
        language_model: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Write the whole model, adapters folded in before; see `avem.train.families.emotion_llama.files`."""
        files.save_model(
            self, Path(directory), licence=licence, provenance=provenance or {}, language_model=language_model
        )

    def save_adapter(self, directory: str | Path, *, provenance: dict[str, Any] | None = None) -> None:
        """Write the adapters, trained projections and the base's path."""
        files.save_adapter(self, Path(directory), provenance=provenance or {})

    def load_trained(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Read what a run trained on this model."""
        files.load_trained(self, folder, settings)

    def adopt_settings(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Take over the configuration of a run on this model, without weights."""
        self.config = files.read_config(folder, settings)

    def identity(self) -> dict[str, Any]:
        """Adapters, prompts and expected features."""
        return {FAMILY: self.config.to_json()}

    def expected_digest(self, name: str) -> str:
        """Digest of the features that the model was trained on; empty where it is not known."""
        return self.config.features.get(name, "")

    def record_features(self, digests: Mapping[str, str]) -> None:
        """Keep the digests of the streams in the configuration, and which of them are zeros."""
        features = {**self.config.features, **{name: one for name, one in digests.items() if name in STREAMS}}
        widths = {stream.name: stream.width or 0 for stream in self.streams}
        zeros = {name: json_sha256(zero_fingerprint(name.split("/")[1], widths[name])) for name in STREAMS}
        filled = tuple(name for name in STREAMS if features.get(name) == zeros[name])
        self.config = replace(self.config, features=features, zeros=filled)

    def check_features(self, name: str, digest: str) -> None:
        """Refuse features other than those the model was trained on.

        Raises:
            FingerprintError: The model names another digest.
        """
        expected = self.expected_digest(name)
        if not expected and self.was_trained and name in STREAMS:
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


def _single(name: str, row: torch.Tensor | StreamRow) -> torch.Tensor | StreamRow:
    """A stream's row of one clip without a batch axis of one."""
    features = row.features if isinstance(row, StreamRow) else row
    wanted = 2 if name == FRAME else 1
    if features.ndim == wanted + 1 and len(features) == 1:
        features = features[0]
    if features.ndim != wanted:
        shape = "[T, C]" if name == FRAME else "[C]"
        raise PromptError(f"The stream {name} has the shape {list(features.shape)}; {shape} is needed.")
    return StreamRow(features, row.companions) if isinstance(row, StreamRow) else features
