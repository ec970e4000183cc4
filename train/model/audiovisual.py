"""`AudiovisualLM`: a causal language model that reads projected video and audio features."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from avem.errors import CheckpointError, FingerprintError, PromptError
from avem.train.model import lora as adapters
from avem.train.model import saving
from avem.train.model.config import AudiovisualConfig
from avem.train.model.embedding import MediaTokens, embed_atoms, embedding_table, project_media
from avem.train.model.generate import generate
from avem.train.model.projectors import AudioProjector, VideoProjector, build_audio_projector, build_video_projector
from avem.train.model.prompts import PromptFormat
from avem.train.model.scoring import response_logprobs
from avem.train.model.sequences import MediaBank, ScoredSequence, check_width
from avem.train.prefix.attention import use_prefix_tree_attention

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

Projector = TypeVar("Projector", VideoProjector, AudioProjector)


class AudiovisualLM(nn.Module):
    """Any Hugging Face causal language model with projectors for video and audio features and a prompt format.

    Args:
        language_model: A transformers model for causal language modelling.
        tokenizer: Its tokenizer.
        config: Projectors, prompt format, expected features.
    """

    def __init__(
        self, language_model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: AudiovisualConfig
    ) -> None:
        super().__init__()
        width = embedding_table(language_model).embedding_dim
        self.config = config
        self.tokenizer = tokenizer
        self.language_model = language_model
        self.video_projector = build_video_projector(config, width)
        self.audio_projector = build_audio_projector(config, width)
        self.source: str = ""
        """Folder or hub id that the base weights were read from; empty for a model made in memory."""
        self.avere_settings: dict[str, Any] = {}
        """The `config.json` of the AVERE checkpoint that the model comes from, if it does."""
        self.was_trained = False
        """Whether it was loaded from what a run trained."""
        self.licence: str = ""
        """Licence that the checkpoint names, as a Hugging Face identifier; empty where it names none."""
        self._adapter: list[Any] = []  # a list hides it from nn.Module, which would count its weights twice
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

    @property
    def device(self) -> torch.device:
        """Where the language model's embeddings are."""
        return embedding_table(self.language_model).weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the language model's embeddings."""
        return embedding_table(self.language_model).weight.dtype

    @property
    def peft_model(self) -> Any:
        """Peft's wrapper around the language model, or None where there is no adapter."""
        return self._adapter[0] if self._adapter else None

    @property
    def context_length(self) -> int:
        """Longest sequence in positions, media included."""
        limit = getattr(self.language_model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30
        return min(self.config.context_length or limit, limit)

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

    def project_bank(self, bank: MediaBank) -> MediaTokens:
        """Project every distinct medium of some sequences once."""
        return project_media(self, bank)

    def embed(self, sequence: ScoredSequence) -> torch.Tensor:
        """Input embeddings `[S, H]` of one sequence, media spliced in."""
        bank = MediaBank()
        atoms = bank.atomise(sequence)
        return embed_atoms(self, atoms, self.project_bank(bank))

    def sequence(
        self,
        question: str,
        answer: str,
        video: torch.Tensor | None = None,
        audio: torch.Tensor | None = None,
        *,
        prompt_format: str | None = None,
    ) -> ScoredSequence:
        """A question on a clip with an answer to score.

        Args:
            question: The question alone, without media placeholders.
            answer: The response; the end-of-sequence token is added.
            video: `[T, N, C]` or None.
            audio: `[S, C]` or None.
            prompt_format: Another format than the model's own, such as `llava_v1`, which AVERE's evaluation uses.

        Raises:
            PromptError: The question holds a placeholder, or the sequence is longer than the context.
            CheckpointError: The tokenizer gives ids that the language model does not know.
        """
        return self._encode(question, answer, video, audio, prompt_format)

    def prompt(
        self,
        question: str,
        video: torch.Tensor | None = None,
        audio: torch.Tensor | None = None,
        *,
        prompt_format: str | None = None,
    ) -> ScoredSequence:
        """The same without an answer, for `generate`; `response_start` is the length of `ids`."""
        return self._encode(question, None, video, audio, prompt_format)

    def generate(
        self,
        prompts: Sequence[ScoredSequence],
        max_new_tokens: int,
        temperature: float = 0.0,
        *,
        top_p: float = 1.0,
        seed: int = 0,
        batch_size: int = 16,
    ) -> list[str]:
        """Answers to prompts; see `avem.train.model.generate.generate`."""
        return generate(
            self, prompts, max_new_tokens, temperature=temperature, top_p=top_p, seed=seed, batch_size=batch_size
        )

    def response_logprobs(self, sequences: Sequence[ScoredSequence], share_prefixes: bool = True) -> torch.Tensor:
        """Summed log-probabilities of the responses, `[n]`; see `avem.train.model.scoring.response_logprobs`."""
        return response_logprobs(self, sequences, share_prefixes=share_prefixes)

    def forward(self, sequences: Sequence[ScoredSequence], share_prefixes: bool = True) -> torch.Tensor:
        """`response_logprobs`, so that wrappers such as DistributedDataParallel can call the model."""
        return self.response_logprobs(sequences, share_prefixes)

    def add_lora(self, rank: int = 8, scale: float = 4.0, *, dropout: float = 0.0, seed: int = 0) -> None:
        """Freeze everything and add trainable low-rank adapters; see `avem.train.model.lora.add_lora`."""
        adapters.add_lora(self, rank, scale, dropout=dropout, seed=seed)

    def checkpoint_activations(self) -> None:
        """While training, keep only each layer's input and compute the rest again in the backward pass."""
        enable = getattr(self.language_model, "activation_checkpointing_enable", None)  # the newer name
        (enable or self.language_model.gradient_checkpointing_enable)({"use_reentrant": False})

    def attach_adapter(self, peft_model: PeftModel) -> None:
        """Use peft's wrapper around this model's language model."""
        self._adapter[:] = [peft_model]

    def adapter_disabled(self) -> AbstractContextManager[None]:
        """A context in which the model answers as its base, without the adapter."""
        return self.peft_model.disable_adapter() if self._adapter else nullcontext()

    def merge(self) -> None:
        """Fold the adapter into the language model's weights; without one nothing happens."""
        if self._adapter:
            self.language_model = self.peft_model.merge_and_unload()
            self._adapter.clear()

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

    def save_adapter(self, directory: str | Path, *, provenance: dict[str, Any] | None = None) -> None:
        """Write the adapter, trained projectors and the base's path; see `avem.train.model.saving.save_adapter`."""
        saving.save_adapter(self, Path(directory), provenance=provenance or {})

    def fingerprint(self) -> str:
        """SHA-256 over all weights (an adapter included), configuration, prompt format and tokenizer.

        A model without weights, as `load_skeleton` gives it, has none: the text is empty.
        """
        return "" if self.device.type == "meta" else saving.fingerprint(self)

    def check_features(self, kind: str, digest: str) -> None:
        """Refuse features other than those the model was trained on.

        Args:
            kind: `video` or `audio`.
            digest: SHA-256 of the store's fingerprint for this kind, from `avem.files.json_sha256`.

        Features that the result of a run can't be compared with, since the run recorded none, are logged.

        Raises:
            FingerprintError: The model names another digest.
        """
        expected = getattr(self.config, f"{kind}_fingerprint")
        if not expected and self.was_trained and getattr(self.config, f"{kind}_hidden_size"):
            logger.warning(
                "%s does not say which %s features it was trained on, so the store's (fingerprint %s) could not be "
                "checked; make sure that they come from the same encoder.",
                self.source or "The model",
                kind,
                digest[:12],
            )
        if expected and digest != expected:
            raise FingerprintError(
                f"The store's {kind} features (fingerprint {digest[:12]}) are not those that the model was trained on "
                f"({expected[:12]}); extract the clips with the same encoder and settings."
            )

    def check_length(self, positions: int) -> None:
        """Refuse a sequence that does not fit.

        Raises:
            PromptError: `positions` exceeds the context; the message gives both counts.
        """
        if positions > self.context_length:
            raise PromptError(
                f"The sequence fills {positions} positions, media included, and the context holds "
                f"{self.context_length}; shorten the question or the answer."
            )

    def _encode(
        self,
        question: str,
        answer: str | None,
        video: torch.Tensor | None,
        audio: torch.Tensor | None,
        prompt_format: str | None,
    ) -> ScoredSequence:
        media_tokens = 0
        if video is not None:
            check_width("video", video, self.config.video_hidden_size)
            media_tokens += self.video_token_count(video.shape[-3], video.shape[-2]) - video.shape[-3]
        if audio is not None:
            check_width("audio", audio, self.config.audio_hidden_size)
            media_tokens += self.audio_token_count(audio.shape[-2]) - 1
        frames = 0 if video is None else video.shape[-3]
        encoded = PromptFormat(self.tokenizer, prompt_format or self.config.prompt_format).encode(
            question, answer, frames=frames, audio=audio is not None
        )
        self.check_length(len(encoded.ids) + media_tokens)
        known = embedding_table(self.language_model).num_embeddings
        if max(encoded.ids) >= known:
            raise CheckpointError(
                f"The tokenizer gives the id {max(encoded.ids)} and the language model knows {known}; put the "
                f"tokenizer that belongs to the model beside its weights."
            )
        return ScoredSequence(torch.tensor(encoded.ids), video, audio, encoded.response_start)


def _present(projector: Projector | None, kind: str) -> Projector:
    if projector is None:
        raise PromptError(f"This model takes no {kind}; leave the {kind} features out.")
    return projector
