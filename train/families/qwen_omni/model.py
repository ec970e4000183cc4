"""Qwen2.5-Omni and Qwen3-Omni thinkers behind the door that training, scoring and generation use."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from avem.errors import CheckpointError, FingerprintError, PromptError, SettingError
from avem.files import replace_directory
from avem.guards.output_kinds import ADAPTER
from avem.hub.omni import OmniFolder
from avem.train.families.base import FamilyModel
from avem.train.families.qwen_omni import adapter, cards
from avem.train.families.qwen_omni.files import write_like
from avem.train.families.qwen_omni.names import released_tensor
from avem.train.families.qwen_omni.positions import SoundShape, ThreeAxisPositions, Timing, VideoShape
from avem.train.families.qwen_omni.prompt import LAYOUTS, Layout, Markers, OmniPrompt
from avem.train.model.embedding import MediaTokens
from avem.train.model.media import SIDES, FamilyStream, Group, MediaEmbedding, Side, StreamRow
from avem.train.model.positions import Positions
from avem.train.model.prompts import EncodedPrompt
from avem.train.model.saving import UNKNOWN_LICENCE, refuse_unsaveable
from avem.train.prefix.attention import use_prefix_tree_attention

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from avem.train.families.qwen_omni.language_model import ThinkerLanguageModel

SECONDS_PER_CHUNK = 2.0
"""Of Qwen2.5-Omni's processor, where the configuration states none."""


class QwenOmniModel(FamilyModel):
    """A thinker's language model over the cached outputs of its own towers.

    Args:
        language_model: A `ThinkerLanguageModel`.
        tokenizer: The checkpoint's, with its chat template.
        folder: The checkpoint.

    Raises:
        CheckpointError: Tokenizer, template and configuration do not belong together.
    """

    clip_advice = "extract the clip with fewer `--frames`, a smaller `--max-pixels` or `--long windows`"

    def __init__(
        self, language_model: ThinkerLanguageModel, tokenizer: PreTrainedTokenizerBase, folder: OmniFolder
    ) -> None:
        super().__init__(language_model, tokenizer)
        self.folder = folder
        self.layout_name: Layout = "separate"
        """Where a clip's sound goes in prompts, unless `prompt_format` says otherwise."""
        self.digests: dict[str, str] = {}
        """Digests of the features it was trained on, by stream."""
        config, whole = folder.config, folder.family == "qwen2_5_omni"
        chunk = float(folder.thinker.get("seconds_per_chunk") or SECONDS_PER_CHUNK)
        self.timing = Timing(folder.position_id_per_seconds, whole, chunk if whole else None)
        markers = Markers(
            video=config.video_token_id,
            audio=config.audio_token_id,
            video_opener=_stated(folder, "vision_start_token_id"),
            audio_opener=_stated(folder, "audio_start_token_id"),
        )
        self._prompt = OmniPrompt(tokenizer, markers, self.timing)
        self._positions = ThreeAxisPositions(
            video_opener=markers.video_opener, audio_opener=markers.audio_opener, shared=whole
        )
        self._streams: tuple[FamilyStream, ...] | None = None
        use_prefix_tree_attention(language_model)

    takes_subtitles = True

    @property
    def family(self) -> str:
        """`qwen2_5_omni` or `qwen3_omni`."""
        return self.folder.family

    @property
    def streams(self) -> tuple[FamilyStream, ...]:
        """The outputs of the checkpoint's own towers; the first call hashes the towers' weights on disk."""
        if self._streams is None:
            companions: tuple[str, ...] = ("grid", "seconds_per_slot")
            if self.levels:
                companions += ("deepstack",)
            self._streams = (
                self._stream("video", "visual", companions),
                self._stream("audio", "audio", ()),
            )
        return self._streams

    @property
    def levels(self) -> int:
        """Language-model layers after which the video is added again (Qwen3-Omni's deepstack); 0 for none."""
        return len(getattr(self.folder.config.vision_config, "deepstack_visual_indexes", ()))

    @property
    def experts(self) -> int:
        """Experts in a layer; 0 where there are none."""
        return int(getattr(self.folder.config.text_config, "num_experts", 0) or 0)

    @property
    def positions(self) -> Positions:
        """Three axes, see `avem.train.families.qwen_omni.positions`."""
        return self._positions

    def takes(self, side: Side) -> bool:
        """Both sides."""
        return True

    def stream_names(self, side: Side) -> list[str]:
        """The side's stream."""
        return [f"{side}/{self.family}"]

    def layout(self, side: Side, group: Group) -> Hashable:
        """The shape of a clip's video or sound.

        Raises:
            FingerprintError: The features are of another width, or do not fit their grid.
            PromptError: A companion is missing.
        """
        row = group[self.stream_names(side)[0]]
        width = self.folder.hidden_size
        if row.features.ndim != 2 or row.features.shape[-1] != width:
            raise FingerprintError(
                f"The {side} features are {list(row.features.shape)} and this model reads [n, {width}]; extract the "
                "clips with `avem extract --for` this model."
            )
        if side == "audio":
            return SoundShape(len(row.features))
        slots, rows, columns = (int(size) for size in self._companion(row, "grid").tolist())
        video = VideoShape((slots, rows, columns), float(self._companion(row, "seconds_per_slot")))
        if video.tokens != len(row.features):
            raise FingerprintError(
                f"The video's grid {slots} x {rows} x {columns} makes {video.tokens} tokens and its row holds "
                f"{len(row.features)}; extract the clip again."
            )
        return video

    def encode(
        self, question: str, answer: str | None, video: Hashable | None, audio: Hashable | None, **options: Any
    ) -> EncodedPrompt:
        """Lay out one turn with the checkpoint's chat template.

        `prompt_format` may name another layout, and `subtitle` gives what is said.
        """
        layout = options.get("prompt_format") or self.layout_name
        seen, heard = cast("VideoShape | None", video), cast("SoundShape | None", audio)
        return self._prompt.encode(question, answer, seen, heard, layout, options.get("subtitle"))

    def media_embeddings(self, side: Side, groups: Sequence[Group]) -> list[MediaEmbedding]:
        """The cached rows as they are, in the model's number format."""
        name = self.stream_names(side)[0]
        return [self._embedding(group[name], side) for group in groups]

    def extra_inputs(self, rows: Sequence[Sequence[int]], media: MediaTokens, length: int) -> dict[str, Any]:
        """Qwen3-Omni's deepstack: where video is, and what is added there after the first layers; see `add_at`."""
        if not self.levels:
            return {}
        positions: list[torch.Tensor] = []
        found: list[torch.Tensor] = []
        for number, row in enumerate(rows):
            start = (number + 1) * length - sum(media.size_of(atom) for atom in row)
            for atom in row:
                size = media.size_of(atom)
                if atom < 0 and media.piece_of(atom)[0] == "video":
                    positions.append(torch.arange(start, start + size))
                    found.append(cast("torch.Tensor", media.extra(atom, "deepstack")))
                start += size
        if not found:
            return {}
        levels = torch.cat(found, 1)  # [levels, visual positions, H], row after row
        return {"visual_pos_masks": torch.cat(positions).to(self.device), "deepstack_visual_embeds": list(levels)}

    def lora_targets(self) -> dict[str, Any]:
        """All linear layers of the language model but the output, experts included."""
        return adapter.lora_targets(bool(self.experts))

    def add_lora(self, rank: int = 8, scale: float = 4.0, *, dropout: float = 0.0, seed: int = 0) -> None:
        """Freeze everything and add trainable low-rank adapters; see `avem.train.model.lora.add_lora`.

        Raises:
            SettingError: Dropout was asked for and the model has experts, whose adapters know none.
        """
        if dropout and self.experts:
            raise SettingError("Adapters of experts can't drop inputs; set lora_dropout to 0.")
        super().add_lora(rank, scale, dropout=dropout, seed=seed)

    def save(
        self,
        directory: str | Path,
        *,
        licence: str | None = None,
        provenance: dict[str, Any] | None = None,
        language_model: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Write a checkpoint in the released layout: this language model, everything else as in its folder.

        Raises:
            SettingError: The model has an adapter, or weights in 4 bits, or the folder holds something else.
        """
        refuse_unsaveable(self)
        state = self.language_model.state_dict() if language_model is None else language_model
        card = cards.model_card(self, licence or self.licence or UNKNOWN_LICENCE, provenance or {})

        def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
            found = released_tensor(name, state)
            return tensor if found is None else found.detach()

        settings = cards.own_settings(self)
        write_like(self.folder, Path(directory), change, dtype=self.dtype, card=card, settings=settings)
        self.source = str(Path(directory).resolve())

    def save_adapter(self, directory: str | Path, *, provenance: dict[str, Any] | None = None) -> None:
        """Write the adapter under the released names, and what it was trained on.

        Raises:
            SettingError: Nothing was trained, or the folder holds something else.
        """
        directory = Path(directory)
        if self.peft_model is None:
            raise SettingError(
                "Only adapters of a Qwen-Omni model are saved beside it; train with LoRA, or use `save`."
            )

        def fill(folder: Path) -> None:
            source = self.source or str(self.folder.path)
            base = os.path.relpath(source, directory.resolve()) if Path(source).exists() else source
            adapter.write_adapter(folder, self.peft_model, experts=self.experts, prefix=self.folder.prefix, base=base)
            cards.write_run(folder, self, base, provenance or {})

        replace_directory(directory, fill, ADAPTER)

    def load_trained(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Read the adapter that `save_adapter` wrote.

        Raises:
            MissingFileError: A file is missing.
            CheckpointError: It does not fit.
        """
        self.adopt_settings(folder, settings)
        self.merge()
        self.requires_grad_(False)
        updates = adapter.read_adapter(folder, self.experts)
        self.attach_adapter(adapter.attach(self.language_model, updates, folder))

    def adopt_settings(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Take over a run's layout and the digests of its features.

        Raises:
            CheckpointError: They can't be understood.
        """
        cards.check_version(folder, settings)
        own = settings.get(cards.SETTINGS)
        own = own if isinstance(own, dict) else {}
        layout, digests = own.get("layout", self.layout_name), own.get("features", {})
        if layout not in LAYOUTS or not isinstance(digests, dict):
            raise CheckpointError(
                f"{folder / 'config.json'} names no layout of this family; copy the run's folder again."
            )
        self.layout_name = layout
        self.digests = {str(name): str(digest) for name, digest in digests.items()}

    def expected_digest(self, name: str) -> str:
        """Digest of the features that the model was trained on; empty where it is not known."""
        return self.digests.get(name, "")

    def record_features(self, digests: Mapping[str, str]) -> None:
        """Keep the digests of the two streams."""
        known = {name for side in SIDES for name in self.stream_names(side)}
        self.digests |= {name: digest for name, digest in digests.items() if name in known}

    def use_prompt_format(self, name: str) -> None:
        """Lay prompts out as `separate` or `audio_in_video` from now on.

        Raises:
            SettingError: There is no such layout.
        """
        if name not in LAYOUTS:
            raise SettingError(f"There is no layout {name!r} for Qwen-Omni; choose one of {', '.join(LAYOUTS)}.")
        self.layout_name = name

    def check_features(self, name: str, digest: str) -> None:
        """Refuse features of other settings than those the model was trained on, such as another pixel budget.

        Raises:
            FingerprintError: The model names another digest.
        """
        expected = self.expected_digest(name)
        if expected and digest != expected:
            raise FingerprintError(
                f"The store's {name} features (fingerprint {digest[:12]}) are not those that the model was trained on "
                f"({expected[:12]}); extract the clips with the same frames, pixel budget and weights."
            )

    def identity(self) -> dict[str, Any]:
        """Family, layout and how time is counted."""
        return {
            "family": self.family,
            "layout": self.layout_name,
            "ids_per_second": self.timing.ids_per_second,
            "seconds_per_chunk": self.timing.seconds_per_chunk,
            "features": self.digests,
        }

    def end_ids(self) -> set[int]:
        """The end of sequence and of the assistant's turn."""
        return self._prompt.end_ids()

    def _stream(self, side: Side, tower: Any, companions: tuple[str, ...]) -> FamilyStream:
        expected = {"encoder": self.family, "weights_sha256": self.folder.tower_digest(tower)}
        return FamilyStream(
            f"{side}/{self.family}",
            side,
            side,
            companions=companions,
            expect=expected,
            ragged=True,
            width=self.folder.hidden_size,
            required=True,
        )

    def _embedding(self, row: StreamRow, side: Side) -> MediaEmbedding:
        tokens = row.features.to(self.device, self.dtype, non_blocking=True)
        if side == "audio" or not self.levels:
            return MediaEmbedding(tokens)
        levels = self._companion(row, "deepstack").to(self.device, self.dtype, non_blocking=True)
        if levels.shape != (self.levels, *tokens.shape):
            raise FingerprintError(
                f"The video's deepstack arrays are {list(levels.shape)} and this model reads "
                f"{[self.levels, *tokens.shape]}; extract the clips with `avem extract --for` this model."
            )
        return MediaEmbedding(tokens, {"deepstack": levels})

    def _companion(self, row: StreamRow, name: str) -> torch.Tensor:
        if name not in row.companions:
            raise PromptError(
                f"A video row comes without its {name}; hand over stream rows as the store gives them, with companions."
            )
        return row.companions[name]


def _stated(folder: OmniFolder, name: str) -> int:
    """A token id that the configuration states.

    Raises:
        CheckpointError: It states none.
    """
    value = folder.thinker.get(name, getattr(folder.config, name, None))
    if not isinstance(value, int):
        raise CheckpointError(f"{folder.path / 'config.json'} names no {name}; fetch the checkpoint again.")
    return value
