"""The door for model families: what training, scoring, packing, constants, bench and probes ask of a model.

A family is a subclass of `FamilyModel` and an entry in `avem.train.families.registry`. It states which streams it
reads, how its prompt is laid out, how a side becomes tokens, and how the model is read and written. Everything else,
from prefix sharing to resuming a run, is common. `docs/models.md` shows how to add one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from avem.errors import CheckpointError, PromptError, SettingError
from avem.train.model import lora as adapters
from avem.train.model import saving
from avem.train.model.card import family_card
from avem.train.model.embedding import MediaTokens, embed_atoms, embed_media, embedding_table
from avem.train.model.generate import generate
from avem.train.model.media import FamilyStream, Group, MediaEmbedding, Medium, Piece, Side, StreamRow, rows_of
from avem.train.model.positions import OffsetPositions, Positions, model_positions, row_positions
from avem.train.model.prompts import EncodedPrompt
from avem.train.model.scoring import response_logprobs
from avem.train.model.sequences import MediaBank, ScoredSequence

if TYPE_CHECKING:
    from peft import PeftModel


class FamilyModel(nn.Module):
    """A language model that reads streams. Subclasses fill in what the family decides; the rest is common.

    Args:
        language_model: What takes `inputs_embeds` and gives logits; a transformers model, or a module with `config`,
            `get_input_embeddings`, and layers that attend through transformers' attention interface.
        tokenizer: Its Hugging Face tokenizer.
    """

    def __init__(self, language_model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.language_model = language_model
        self.tokenizer = tokenizer
        self.source: str = ""
        """Folder or hub id that the base weights were read from; empty for a model made in memory."""
        self.was_trained = False
        """Whether it was loaded from what a run trained."""
        self.saw_subtitles: bool | None = None
        """Whether that run's prompts showed subtitles; None where there is no run, or it does not say."""
        self.licence: str = ""
        """Licence that the checkpoint names, as a Hugging Face identifier; empty where it names none."""
        self._adapter: list[Any] = []  # a list hides it from nn.Module, which would count its weights twice

    # ---- what a family states -------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def family(self) -> str:
        """The family's name, as in the registry."""

    @property
    @abstractmethod
    def streams(self) -> tuple[FamilyStream, ...]:
        """The streams that it reads; see `FamilyStream` for how they are found in a store."""

    @abstractmethod
    def layout(self, side: Side, group: Group) -> Hashable:
        """What the prompt has to know of a side: how many tokens it becomes, its grid, its seconds a slot.

        Args:
            side: Which side.
            group: Its rows. Features and ragged companions may be on the device `meta`: only their shapes count, so
                that a plan reads no features.

        Returns:
            Anything hashable; sides of equal layouts have the same prompts.

        Raises:
            FingerprintError: The features can't be those that the model reads (another width, say).
        """

    @abstractmethod
    def encode(
        self, question: str, answer: str | None, video: Hashable | None, audio: Hashable | None, **options: Any
    ) -> EncodedPrompt:
        """Lay out one turn.

        Args:
            question: The question alone.
            answer: The response, with whatever ends it; None for a prompt to generate from.
            video: Layout of the video side; None without it.
            audio: Layout of the audio side; None without it.
            **options: What the family's prompt can vary in: `prompt_format`, `subtitle`, `task`.

        Raises:
            PromptError: Question or answer holds a special token or a placeholder.
        """

    @abstractmethod
    def media_embeddings(self, side: Side, groups: Sequence[Group]) -> list[MediaEmbedding]:
        """Turn a side of several clips into tokens the language model reads: projected, or as cached.

        Args:
            side: Which side.
            groups: Rows of each clip, on any device and in any float type; lengths may differ.

        Returns:
            One for each group, on the model's device; gradients flow to projectors that are trained.
        """

    @abstractmethod
    def save(
        self,
        directory: str | Path,
        *,
        licence: str | None = None,
        provenance: dict[str, Any] | None = None,
        language_model: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Write the whole model as a folder that `load_model` reads.

        Args:
            directory: The new folder.
            licence: For the model card; None keeps the checkpoint's.
            provenance: What the card says about data and settings.
            language_model: The language model's weights by name, where this process holds a part of them only.
        """

    @abstractmethod
    def load_trained(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Read what `save_adapter` wrote into this model, which is the base.

        Args:
            folder: A run's `final/`.
            settings: Its `config.json`.

        Raises:
            CheckpointError: It does not fit.
        """

    @abstractmethod
    def adopt_settings(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Take over the settings of a run on this model without reading weights, for a skeleton.

        Args:
            folder: A run's `final/`.
            settings: Its `config.json`.
        """

    @abstractmethod
    def check_features(self, name: str, digest: str) -> None:
        """Refuse features other than those the model was trained on.

        Args:
            name: A stream's name.
            digest: SHA-256 of its fingerprint in the store (`avem.files.json_sha256`).

        Raises:
            FingerprintError: The model names another digest.
        """

    @abstractmethod
    def record_features(self, digests: Mapping[str, str]) -> None:
        """Remember which features the model is being trained on, for `check_features` of the saved model."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything that decides scores beside weights, language-model configuration and tokenizer, as JSON.

        `fingerprint` covers it, and `config.json` of a run's `final/` holds it for `load_trained`.
        """

    @abstractmethod
    def end_ids(self) -> set[int]:
        """Ids that end an answer."""

    # ---- what a family may change ---------------------------------------------------------------------------------

    clip_advice = ""
    """What to do about a clip that fills most of the context; empty for families whose clips are all equally long."""

    takes_subtitles = False
    """Whether `encode` takes `subtitle`: what is said, to be read as text."""

    whole_clips = False
    """Whether a row is refused whose clip lacks a side that is shown, whatever the row asks about."""

    @property
    def positions(self) -> Positions:
        """Position ids; one axis that counts tokens unless the family says otherwise."""
        return OffsetPositions()

    @property
    def context_length(self) -> int:
        """Longest sequence in tokens, media included."""
        config = self.language_model.config.get_text_config()
        return getattr(config, "max_position_embeddings", None) or 1 << 30

    def takes(self, side: Side) -> bool:
        """Whether prompts can hold this side."""
        return any(stream.side == side for stream in self.streams)

    def expected_digest(self, name: str) -> str:
        """Digest of the features that the model was trained on, by stream; empty where it is not known."""
        return ""

    def use_prompt_format(self, name: str) -> None:
        """Lay prompts out otherwise from now on; a model that is saved afterwards keeps it.

        Args:
            name: One of the family's prompt formats.

        Raises:
            SettingError: The family has no such format.
        """
        raise SettingError(f"A {self.family} model has one prompt format; leave prompt_format={name} out.")

    def projectors(self, side: Side) -> Sequence[nn.Module]:
        """What `train_projectors` trains for a side, outside the language model."""
        return ()

    def lora_targets(self) -> dict[str, Any]:
        """What LoRA adapts, as arguments of peft's `LoraConfig`: `target_modules`, `target_parameters` (experts)."""
        return {"target_modules": "all-linear"}

    def check_lora(self, rank: int, scale: float, *, new: bool) -> None:
        """Refuse settings of LoRA that are not those of adapters that the released checkpoint comes with.

        Args:
            rank: Of the adapters to train.
            scale: alpha / rank.
            new: Whether new adapters are wanted in any case.

        Raises:
            SettingError: The checkpoint's own adapters have another rank or scale, and no new ones are asked for.
        """

    def extra_inputs(self, rows: Sequence[Sequence[int]], media: MediaTokens, length: int) -> dict[str, Any]:
        """More arguments of the language model for some rows of atoms, such as deepstack arrays and their mask.

        Args:
            rows: B rows of token ids, and of negative numbers for media.
            media: `media.size_of(atom)` and `media.extra(atom, name)` give an atom's size and its part of
                `MediaEmbedding.extras`.
            length: Positions S of the inputs; shorter rows are padded on the left.
        """
        return {}

    def logits(
        self,
        embeddings: torch.Tensor,
        keep: torch.Tensor | int,
        positions: torch.Tensor | None = None,
        **call: Any,
    ) -> torch.Tensor:
        """Run the language model. Override where it has no `logits_to_keep`: inner model first, then `lm_head`.

        Args:
            embeddings: `[B, S, H]`.
            keep: Indices of the wanted positions, int64 `[R]`, or a number for the last so many.
            positions: Ids `[B, S]` (one axis) or `[axes, B, S]`; None where they count from 0.
            **call: `attention_mask`, `use_cache`, the key-value cache, `prefix_tree`, `extra_inputs`.

        Returns:
            `[B, R, V]`.
        """
        given = call if positions is None else {"position_ids": positions, **call}
        logits: torch.Tensor = self.language_model(inputs_embeds=embeddings, logits_to_keep=keep, **given).logits
        return logits

    def card(self, licence: str, provenance: dict[str, Any]) -> str:
        """The model card's text, Markdown with the hub's metadata block."""
        return family_card(self, licence, provenance)

    def check_length(self, tokens: int, media: int = 0) -> None:
        """Refuse a sequence that does not fit.

        Args:
            tokens: Its positions.
            media: How many of them are media.

        Raises:
            PromptError: `tokens` exceeds the context; the message gives both counts.
        """
        if tokens > self.context_length:
            long_clip = self.clip_advice and 2 * media > self.context_length
            advice = self.clip_advice if long_clip else "shorten the question or the answer"
            raise PromptError(
                f"The sequence fills {tokens} positions, media included, and the context holds "
                f"{self.context_length}; {advice}."
            )

    # ---- common to all --------------------------------------------------------------------------------------------

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

    def stream_names(self, side: Side) -> list[str]:
        """Names of a side's streams."""
        return [stream.name for stream in self.streams if stream.side == side]

    def group(self, side: Side, medium: Medium) -> Group:
        """A side as rows by stream; a bare tensor belongs to the side's only stream.

        Raises:
            PromptError: The side has several streams and came as one tensor, or not at all.
        """
        names = self.stream_names(side)
        if isinstance(medium, torch.Tensor) and len(names) != 1:
            wanted = ", ".join(names) or "nothing"
            raise PromptError(f"The {side} side of this model reads {wanted}; give its streams by name.")
        return rows_of(medium, names[0] if names else side)

    def project_bank(self, bank: MediaBank) -> MediaTokens:
        """Embed every distinct medium of some sequences once."""
        return embed_media(self, bank)

    def embed(self, sequence: ScoredSequence) -> torch.Tensor:
        """Input embeddings `[S, H]` of one sequence, media spliced in."""
        bank = MediaBank()
        atoms = bank.atomise(sequence, self.pieces)
        return embed_atoms(self, atoms, self.project_bank(bank))

    def next_logits(self, sequence: ScoredSequence, **call: Any) -> torch.Tensor:
        """Logits `[V]` of the token after a sequence; `call` goes to the language model."""
        bank = MediaBank()
        atoms = bank.atomise(sequence, self.pieces)
        media = self.project_bank(bank)
        embeddings = embed_atoms(self, atoms, media)[None]  # [1, S, H]
        more = {**self.extra_inputs([atoms], media, embeddings.shape[1]), **call}
        return self.logits(embeddings, 1, self.position_ids(atoms, media), use_cache=False, **more)[0, -1]

    def position_ids(self, atoms: Sequence[int], media: MediaTokens) -> torch.Tensor | None:
        """Position ids of a sequence by itself, as the language model takes them; None where they count from 0."""
        if isinstance(self.positions, OffsetPositions):
            return None
        return model_positions(row_positions(self.positions, atoms, media.piece_of)[0][:, None], self.device)

    def pieces(self, sequence: ScoredSequence, side: Side) -> Sequence[Piece]:
        """What a sequence's placeholders of a side stand for, in order."""
        if sequence.pieces is None:
            raise PromptError("The sequence does not say what its media placeholders stand for; make it with `prompt`.")
        return sequence.pieces[side]

    def sequence(
        self,
        question: str,
        answer: str,
        video: Medium | None = None,
        audio: Medium | None = None,
        *,
        streams: Mapping[str, torch.Tensor | StreamRow] | None = None,
        **options: Any,
    ) -> ScoredSequence:
        """A question on a clip with an answer to score.

        Args:
            question: The question alone, without media placeholders.
            answer: The response; what ends it is added.
            video: The video side: the tensor of its one stream, or stream rows by name. None without it.
            audio: The audio side.
            streams: Instead of the two: rows of any streams by name, as tensors where they have no companions.
            **options: See `encode`.

        Raises:
            PromptError: A text holds a placeholder, or the sequence is longer than the context.
            FingerprintError: Features can't be those that the model reads.
            CheckpointError: The tokenizer gives ids that the language model does not know.
        """
        sides = self._sides(video, audio, streams)
        return self._encoded(question, answer, sides, options)

    def prompt(
        self,
        question: str,
        video: Medium | None = None,
        audio: Medium | None = None,
        *,
        streams: Mapping[str, torch.Tensor | StreamRow] | None = None,
        **options: Any,
    ) -> ScoredSequence:
        """The same without an answer, for `generate`; `response_start` is the length of `ids`."""
        sides = self._sides(video, audio, streams)
        return self._encoded(question, None, sides, options)

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

    def save_adapter(self, directory: str | Path, *, provenance: dict[str, Any] | None = None) -> None:
        """Write the adapter, trained projectors and the base's path; see `avem.train.model.saving.save_adapter`."""
        saving.save_adapter(self, Path(directory), provenance=provenance or {})

    def fingerprint(self) -> str:
        """SHA-256 over all weights (an adapter included), configuration, prompt format and tokenizer.

        A model without weights, as `load_skeleton` gives it, has none: the text is empty.
        """
        return "" if self.device.type == "meta" else saving.fingerprint(self)

    def _sides(
        self,
        video: Medium | None,
        audio: Medium | None,
        streams: Mapping[str, torch.Tensor | StreamRow] | None,
    ) -> dict[Side, Medium]:
        if streams is None:
            given: dict[Side, Medium | None] = {"video": video, "audio": audio}
            return {side: medium for side, medium in given.items() if medium is not None}
        known = {stream.name: stream.side for stream in self.streams}
        if unknown := sorted(streams.keys() - known.keys()):
            raise PromptError(f"This model does not read {', '.join(unknown)}; it reads {', '.join(known)}.")
        groups: dict[Side, dict[str, StreamRow]] = {}
        for name, row in streams.items():
            kept = StreamRow(row) if isinstance(row, torch.Tensor) else row
            groups.setdefault(known[name], {})[name] = kept
        return dict(groups)

    def _encoded(
        self, question: str, answer: str | None, sides: Mapping[Side, Medium], options: Mapping[str, Any]
    ) -> ScoredSequence:
        layouts = {side: self.layout(side, self.group(side, medium)) for side, medium in sides.items()}
        encoded = self.checked(self.encode(question, answer, layouts.get("video"), layouts.get("audio"), **options))
        pieces: dict[Side, tuple[Piece, ...]] = {"video": encoded.video, "audio": encoded.audio}
        return ScoredSequence(
            torch.tensor(encoded.ids),
            sides.get("video"),
            sides.get("audio"),
            encoded.response_start,
            pieces,
            encoded.uncounted,
        )

    def checked(self, encoded: EncodedPrompt) -> EncodedPrompt:
        """The prompt as it is, unless it does not fit.

        Raises:
            PromptError: It is longer than the context.
            CheckpointError: The tokenizer gives ids that the language model does not know.
        """
        pieces = (*encoded.video, *encoded.audio)
        media = sum(piece.size for piece in pieces)
        self.check_length(len(encoded.ids) - len(pieces) + media, media)
        known = embedding_table(self.language_model).num_embeddings
        if max(encoded.ids) >= known:
            raise CheckpointError(
                f"The tokenizer gives the id {max(encoded.ids)} and the language model knows {known}; put the "
                f"tokenizer that belongs to the model beside its weights."
            )
        return encoded
