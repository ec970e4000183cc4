"""The encoders that an Emotion-LLaMA model in avem's layout brings with it, as the pipeline uses them.

Face and motion come from encoders that were never released. Their streams are imported from folders of `.npy` files, or
filled with zeros where that is asked for, as the authors' own demo does.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from avem.cache.decoders import DECODER
from avem.cache.filled import ZEROS, zero_fingerprint
from avem.errors import CheckpointError, DataError, MissingFileError
from avem.extract.decode.decoded import MAX_SOUND_S, MIN_SOUND_S, RATE_HZ
from avem.extract.decode.pixels import CLIP_MEAN, CLIP_STD
from avem.extract.decode.wants import First, Pictures, Sound, Stretched, Wants
from avem.extract.encoders.base import Decoded, Encoded, FixedRows, RowShape
from avem.extract.encoders.eva import EvaSettings, EvaTower, load_eva
from avem.extract.encoders.hubert import LoadedHubert, load_hubert
from avem.extract.encoders.source import Source
from avem.reading import read_json
from avem.weights import read_safetensors

if TYPE_CHECKING:
    from avem.extract.encoders.base import StreamEncoder
    from avem.extract.options import ExtractOptions

FAMILY = "emotion_llama"
FILLED = {"face": ("mae", "feats_llama_proj1"), "motion": ("videomae", "feats_llama_proj2")}
"""Slots without a released encoder: the encoder's name, and the projection that says how wide its vectors are."""


class EvaFrame(FixedRows):
    """EVA-CLIP-g on a clip's first frame; see `StreamEncoder` for its attributes."""

    slot, name = "frame", "eva_g"
    modality: Literal["visual", "audio"] = "visual"

    def __init__(self, tower: EvaTower, device: str, dtype: torch.dtype) -> None:
        self.tower = tower.cast(dtype).to(device)
        self.device, self.dtype = torch.device(device), dtype
        self.row_shape: RowShape = (tower.shape.tokens, tower.shape.width)
        self.pooled_dim = tower.shape.width
        self.wants: Wants = Pictures(First(), Stretched(tower.shape.settings.image_size))

    def copy_to(self, device: str) -> EvaFrame:
        """See `StreamEncoder`."""
        return EvaFrame(deepcopy(self.tower), device, self.dtype)

    def inputs(self, clip: Decoded) -> Tensor:
        """See `StreamEncoder`."""
        return torch.as_tensor(clip.array)

    @torch.no_grad()
    def encode(self, images: Tensor, /) -> tuple[Tensor, Tensor]:
        """Images [B, 3, S, S] to tokens [B, T, C], CLS first, and to the mean of the normalised tokens [B, C]."""
        tokens = self.tower(images.to(self.device))
        pooled = functional.layer_norm(tokens.float(), tokens.shape[-1:]).mean(dim=1)
        return tokens, functional.normalize(pooled, dim=-1)

    def fingerprint(self, decoder: str) -> dict[str, Any]:
        """See `StreamEncoder`."""
        settings = self.tower.shape.settings
        preprocessing = {
            "frames": "first",
            "size": settings.image_size,
            "scale": "square-bicubic-pillow",
            "mean": list(CLIP_MEAN),
            "std": list(CLIP_STD),
            DECODER: decoder,
        }
        layer = f"block-{settings.depth}"
        return _fingerprint(self.name, self.tower.weights_sha256, preprocessing, layer, self.dtype)


class HubertSound:
    """HuBERT on a clip's sound: the mean of its last hidden states over time; see `StreamEncoder`."""

    slot, name = "audio", "hubert"
    modality: Literal["visual", "audio"] = "audio"
    longest = 0

    def __init__(self, loaded: LoadedHubert, device: str, dtype: torch.dtype) -> None:
        if loaded.rate_hz != RATE_HZ:
            raise CheckpointError(f"This HuBERT takes sound at {loaded.rate_hz} Hz, and avem decodes it at {RATE_HZ}.")
        nn.Module.to(loaded.module, device, dtype)  # the model's own has annotations that leave the device out
        self.loaded = loaded
        self.device, self.dtype = torch.device(device), dtype
        self.row_shape: RowShape = (loaded.width,)
        self.pooled_dim = loaded.width
        self.wants: Wants = Sound(MAX_SOUND_S * RATE_HZ)

    def companions_as(self, dtype: str) -> dict[str, Any]:
        """See `StreamEncoder`."""
        return {}

    def copy_to(self, device: str) -> HubertSound:
        """See `StreamEncoder`."""
        return HubertSound(replace(self.loaded, module=deepcopy(self.loaded.module)), device, self.dtype)

    def inputs(self, clip: Decoded) -> Tensor:
        """The sound alone, normalised, without the silence that a decoder puts behind sound of less than a second."""
        samples = torch.as_tensor(clip.array)
        if 0 < clip.duration_s < MIN_SOUND_S:
            samples = samples[: round(clip.duration_s * RATE_HZ)]
        return self.loaded.prepare(samples)

    @torch.no_grad()
    def encode_clips(self, inputs: Sequence[Tensor], /) -> Encoded:
        """Encode clips one by one: padding would change what comes before it."""
        rows = [self.loaded.utterance(one.to(self.device, self.dtype)[None])[0] for one in inputs]
        features = torch.stack(rows)
        return Encoded(features, functional.normalize(features.float(), dim=-1))

    def fingerprint(self, decoder: str) -> dict[str, Any]:
        """See `StreamEncoder`."""
        normalised = self.loaded.normalise
        preprocessing = {"rate_hz": RATE_HZ, "channels": 1, "normalise": normalised, "pool": "mean", DECODER: decoder}
        return _fingerprint(self.name, self.loaded.weights_sha256, preprocessing, "last_hidden_state", self.dtype)


class ZeroVectors(FixedRows):
    """Vectors of zeros for a stream whose encoder nobody has; see `StreamEncoder`."""

    modality: Literal["visual", "audio"] = "visual"

    def __init__(self, slot: str, width: int, wants: Wants, device: str) -> None:
        self.slot, self.name = slot, FILLED[slot][0]
        self.device, self.wants = torch.device(device), wants
        self.row_shape: RowShape = (width,)
        self.pooled_dim = width

    def copy_to(self, device: str) -> ZeroVectors:
        """See `StreamEncoder`."""
        return ZeroVectors(self.slot, self.pooled_dim, self.wants, device)

    def inputs(self, clip: Decoded) -> Tensor:
        """See `StreamEncoder`; nothing of the clip is looked at."""
        return torch.zeros(self.pooled_dim)

    def encode(self, inputs: Tensor, /) -> tuple[Tensor, Tensor]:
        """Zeros, and a pooled vector that is the same for all clips, since one of zeros has no length of 1."""
        pooled = torch.zeros_like(inputs)
        pooled[:, 0] = 1
        return inputs, pooled

    def fingerprint(self, decoder: str) -> dict[str, Any]:
        """See `StreamEncoder`: the same whatever decoded the clips."""
        return zero_fingerprint(self.name, self.pooled_dim)


def is_emotion_llama(path: Path) -> bool:
    """Whether a folder is an Emotion-LLaMA model of avem's, or the result of a run on one."""
    return _settings(path).get("family") == FAMILY


def emotion_llama_sources(path: Path, options: ExtractOptions) -> list[Source]:
    """The model's frame and audio streams, and where asked for face and motion as zeros.

    Raises:
        MissingFileError: The folder has no encoders: it was not made by `avem models import`.
    """
    folder = _imported(path)
    settings = EvaSettings.read(config if (config := folder / "eva" / "config.json").is_file() else None)
    image = Pictures(First(), Stretched(settings.image_size))
    sources = [
        Source("frame", EvaFrame.name, folder / "eva", partial(_eva, folder, settings)),
        Source("audio", HubertSound.name, folder / "hubert", partial(_hubert, folder), gpu_precision="float32"),
    ]
    if options.fill_missing == ZEROS:
        tensors = dict(read_safetensors(folder / "projectors.safetensors"))
        for slot, (name, layer) in FILLED.items():
            width = tensors[f"projections.{layer}.weight"].shape[1]
            sources.append(Source(slot, name, folder, partial(_zeros, slot, width, image), {"filled": ZEROS}))
    return sources


def _eva(folder: Path, settings: EvaSettings, device: str, dtype: torch.dtype) -> StreamEncoder:
    return EvaFrame(load_eva(folder / "eva" / "eva_vit.pth", settings), device, dtype)


def _hubert(folder: Path, device: str, dtype: torch.dtype) -> StreamEncoder:
    return HubertSound(load_hubert(folder / "hubert"), device, dtype)


def _zeros(slot: str, width: int, wants: Wants, device: str, dtype: torch.dtype) -> StreamEncoder:
    return ZeroVectors(slot, width, wants, device)


def _settings(path: Path) -> dict[str, Any]:
    """A folder's `config.json`, or that of the model in a run; empty where it can't be read."""
    for folder in (path / "final", path):
        try:
            found: dict[str, Any] = read_json(folder / "config.json", dict)
        except (DataError, MissingFileError, OSError):
            continue
        return found
    return {}


def _imported(path: Path) -> Path:
    """The imported model at the bottom of a pile of runs.

    Raises:
        MissingFileError: It is not there, or holds no encoders.
    """
    folder = path
    for _ in range(100):  # as many runs on top of each other; a circle of them would never end
        folder = folder / "final" if (folder / "final" / "config.json").is_file() else folder
        settings = _settings(folder)
        if settings.get("model_type") != "avem-adapter":
            break
        folder = folder / str(settings.get("base", ""))
    if not (folder / "eva" / "eva_vit.pth").is_file() or not (folder / "hubert").is_dir():
        raise MissingFileError(
            f"{path} holds no encoders; extract --for the folder that `avem models import emotion-llama` made."
        )
    return folder


def _fingerprint(
    name: str, weights: str, preprocessing: dict[str, Any], layer: str, dtype: torch.dtype
) -> dict[str, Any]:
    return {
        "encoder": name,
        "weights_sha256": weights,
        "preprocessing": preprocessing,
        "layer": layer,
        "dtype": str(dtype).removeprefix("torch."),
    }
