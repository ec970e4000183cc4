"""Models, towers, stores and rows on a device, for `avem.tools.project.benchmarks.step.Bench`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import init_empty_weights
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2_5OmniThinkerForConditionalGeneration

from avem.extract.encoders.languagebind import LanguageBindVideo
from avem.extract.encoders.registry import AudioEncoder, VideoEncoder
from avem.extract.encoders.whisper import LoadedWhisper, new_encoder
from avem.files import write_json_lines
from avem.hub.omni import OmniFolder
from avem.tools.demo.models import make_tokenizer
from avem.tools.project.benchmarks import omni_kit
from avem.tools.project.benchmarks.gpu.shapes import Sizes
from avem.tools.project.benchmarks.gpu.weights import make_weights
from avem.tools.project.benchmarks.memory.kits import write_thinker_folder
from avem.tools.project.benchmarks.step_kit import WORDS, make_rows, make_store, paths_in
from avem.train.families.base import FamilyModel
from avem.train.families.qwen_omni.language_model import empty_model
from avem.train.families.qwen_omni.model import QwenOmniModel
from avem.train.model.audiovisual import AudiovisualLM
from avem.train.model.prompts import SYSTEM

SOURCE = "random weights of the benchmark"


class RandomLlama(AudiovisualLM):
    """A model that no file holds; hashing 14 GB of random weights would tell nothing."""

    def fingerprint(self) -> str:
        """The same for all."""
        return SOURCE


class RandomThinker(QwenOmniModel):
    """The same for Qwen2.5-Omni."""

    def fingerprint(self) -> str:
        """The same for all."""
        return SOURCE


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how a run computes."""

    device: torch.device
    dtype: torch.dtype
    """Of frozen weights: float32 or bfloat16."""
    checkpointing: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """For a `PreferenceConfig`."""
        known = self.device.type in ("cpu", "cuda")
        return {
            "device": str(self.device) if known else "auto",
            "precision": "bf16" if self.dtype == torch.bfloat16 else "float32",
            "gradient_checkpointing": self.checkpointing,
        }


class DeviceKit(Protocol):
    """A kit whose model is made in memory."""

    place: Place

    @property
    def settings(self) -> dict[str, Any]:
        """For a `PreferenceConfig`."""

    def encode(self, side: str, clip: int, /) -> Tensor:
        """Features of a clip as the store keeps them."""

    def skeleton(self) -> FamilyModel:
        """The model without storage."""

    def model(self) -> FamilyModel:
        """The model with random weights on the device."""

    def tower_operations(self) -> float:
        """Floating-point operations of encoding one clip with both towers."""


@dataclass
class Towers:
    """LanguageBind's ViT and Whisper's encoder on the device, and clips as they take them."""

    sizes: Sizes
    place: Place
    video: VideoEncoder = field(init=False)
    audio: AudioEncoder = field(init=False)

    def __post_init__(self) -> None:
        sizes, place = self.sizes, self.place
        with init_empty_weights(include_buffers=False):
            seeing = LanguageBindVideo(sizes.video, 64)
            hearing = new_encoder(sizes.audio)
        make_weights(seeing, place.device, place.dtype)
        make_weights(hearing, place.device, torch.float32)  # its encoder puts all but the norms in the number format
        for module in (seeing, hearing):
            module.eval()
        self.video = VideoEncoder(seeing, -2, str(place.device), place.dtype)
        self.audio = AudioEncoder(LoadedWhisper(hearing, sizes.audio, ""), str(place.device), place.dtype)

    def pixels(self, clips: int, seed: int = 0) -> Tensor:
        """`[clips, 3, T, S, S]`."""
        config = self.sizes.video
        return self._draw((clips, 3, config.num_frames, config.image_size, config.image_size), seed)

    def mels(self, clips: int, seed: int = 0) -> Tensor:
        """`[clips, n_mels, frames]`."""
        return self._draw((clips, self.sizes.audio.n_mels, 2 * self.sizes.audio.n_audio_ctx), seed)

    def _draw(self, shape: tuple[int, ...], seed: int) -> Tensor:
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return drawn.to(self.place.device, self.place.dtype)

    def operations(self, side: str) -> float:
        """Of one clip, in the linear layers: two for each weight and token."""
        config = self.sizes.video
        if side == "video":
            return 2.0 * _matrices(self.video.model) * config.num_frames * config.tokens
        return 2.0 * _matrices(self.audio.module) * self.sizes.audio.n_audio_ctx


@dataclass
class LlamaKit:
    """A Llama with AVERE's projectors and towers."""

    folder: Path
    sizes: Sizes
    place: Place
    towers: Towers

    def __post_init__(self) -> None:
        make_store(self.folder, self.encode, self.sizes.rows.clips)
        write_json_lines(self.folder / "prefs.jsonl", [row.to_json() for row in make_rows(self.sizes.rows)])

    @property
    def settings(self) -> dict[str, Any]:
        """For a `PreferenceConfig`."""
        return {**paths_in(self.folder), **self.place.settings}

    def encode(self, side: str, clip: int, /) -> Tensor:
        """Features of a clip in the store's float16, on the device."""
        towers = self.towers
        if side == "video":
            return towers.video.encode(towers.pixels(1, clip))[0][0].half()
        return towers.audio.encode(towers.mels(1, clip))[0][0].half()

    @cached_property
    def _tokenizer(self) -> Any:
        return make_tokenizer([*(f"w{n}" for n in range(WORDS)), *SYSTEM.values(), "USER : ASSISTANT"])

    def skeleton(self) -> FamilyModel:
        """The model without storage."""
        with init_empty_weights(include_buffers=False):
            llama = LlamaForCausalLM(LlamaConfig(**self.sizes.llama))
            model = RandomLlama(llama, self._tokenizer, self.sizes.projectors)
        model.source = SOURCE
        return model

    def model(self) -> FamilyModel:
        """The model on the device."""
        model = self.skeleton()
        make_weights(model, self.place.device, self.place.dtype)
        return model

    def tower_operations(self) -> float:
        """Of both towers on one clip."""
        return self.towers.operations("video") + self.towers.operations("audio")


@dataclass
class ThinkerKit:
    """Qwen2.5-Omni's thinker; `thinker` and `grid` are what `OmniPlainStep` reads."""

    folder: Path
    sizes: Sizes
    place: Place
    thinker: Any = field(init=False)
    grid: Tensor = field(init=False)
    pixels: Tensor = field(init=False)
    mels: Tensor = field(init=False)

    def __post_init__(self) -> None:
        sizes, device = self.sizes, self.place.device
        write_thinker_folder(self.folder / "model", sizes.omni.to_dict())
        with init_empty_weights(include_buffers=False):
            self.thinker = Qwen2_5OmniThinkerForConditionalGeneration(sizes.omni).eval()
        make_weights(self.thinker, device, self.place.dtype)
        self.grid = torch.tensor([sizes.grid]).to(device)
        generator, patches = torch.Generator().manual_seed(0), sizes.grid[0] * sizes.grid[1] * sizes.grid[2]
        width = 3 * 2 * sizes.omni.vision_config.patch_size**2
        drawn = torch.randn(sizes.rows.clips, patches, width, generator=generator)
        self.pixels = drawn.to(device, self.place.dtype)
        heard = torch.randn(sizes.rows.clips, 128, sizes.mel_frames, generator=generator)
        self.mels = heard.to(device, self.place.dtype)
        omni_kit.make_store(self.folder, self.encode, sizes.rows.clips, self.grid, sizes.mel_frames)
        write_json_lines(self.folder / "prefs.jsonl", [row.to_json() for row in make_rows(sizes.rows)])

    @property
    def settings(self) -> dict[str, Any]:
        """For a `PreferenceConfig`."""
        return {**paths_in(self.folder), **self.place.settings}

    def encode(self, side: str, clip: int) -> Tensor:
        """Output `[n, H]` of a tower in the store's bfloat16, on the device."""
        return omni_kit.encoded(self, side, clip)

    def skeleton(self) -> FamilyModel:
        """The language model without storage, behind avem's door."""
        with init_empty_weights(include_buffers=False):
            language_model = empty_model(self._omni.config.text_config)
        return self._behind_the_door(language_model)

    def model(self) -> FamilyModel:
        """The same over the thinker's own weights."""
        with init_empty_weights(include_buffers=False):
            language_model = empty_model(self.thinker.config.text_config)
        language_model.model, language_model.lm_head = self._inside("language_model"), self.thinker.lm_head
        return self._behind_the_door(language_model)

    def tower_operations(self) -> float:
        """Of both towers on one clip; sound is halved by the tower's convolution."""
        patches = self.sizes.grid[0] * self.sizes.grid[1] * self.sizes.grid[2]
        sound = _matrices(self._inside("audio_tower")) * self.sizes.mel_frames / 2
        return 2.0 * (_matrices(self._inside("visual")) * patches + sound)

    def _inside(self, name: str) -> Any:
        """A part of the thinker; transformers' releases differ in how deep it lies."""
        inner = getattr(self.thinker.model, name, None)
        if inner is not None:
            return inner
        return self.thinker.model if name == "language_model" else getattr(self.thinker, name)

    @property
    def _omni(self) -> OmniFolder:
        return OmniFolder.open(self.folder / "model")

    def _behind_the_door(self, language_model: Any) -> FamilyModel:
        model = RandomThinker(language_model, omni_kit.make_tokenizer(), self._omni)
        model.source = SOURCE
        return model.eval()


def _matrices(module: torch.nn.Module) -> int:
    """Weights of a module's matrices."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)
