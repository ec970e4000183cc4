"""The encoders behind one registry: raw frames or samples in, features and a pooled vector out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from avem.cache.decoders import DECODER
from avem.errors import CheckpointError, SettingError
from avem.extract.decode.pixels import CLIP_MEAN, CLIP_STD, preprocess_frames
from avem.extract.decode.wants import Evenly, Pictures, Sound, Square, Wants
from avem.extract.defaults import DEFAULT_DECODER
from avem.extract.encoders.base import Decoded, FixedRows, RowShape
from avem.extract.encoders.checkpoints import read_json
from avem.extract.encoders.languagebind import LanguageBindVideo, load_languagebind
from avem.extract.encoders.whisper import (
    HOP_LENGTH,
    SAMPLE_RATE,
    LoadedWhisper,
    cast_weights,
    load_whisper,
    openai_whisper,
)
from avem.locate import locate_model


class VideoEncoder(FixedRows):
    """LanguageBind-Video as the pipeline uses it.

    Attributes:
        name: Folder name in the store.
        frames: T, frames sampled from a clip.
        size: S, side of the square the encoder sees, in pixels.
        row_shape: (T, N, C) of one clip's features.
        pooled_dim: D of the pooled vector.
    """

    slot, name = "video", "languagebind-video"
    modality: Literal["visual", "audio"] = "visual"

    def __init__(self, model: LanguageBindVideo, layer: int, device: str, dtype: torch.dtype) -> None:
        config = model.config
        states = config.num_hidden_layers + 1
        if not -states <= layer < states:
            raise SettingError(f"Layer {layer} does not exist: this encoder has hidden states 0 to {states - 1}.")
        self.model = model.to(device=device, dtype=dtype)
        self.layer, self.device, self.dtype = layer, torch.device(device), dtype
        self.frames, self.size = config.num_frames, config.image_size
        self.row_shape: RowShape = (config.num_frames, config.tokens, config.hidden_size)
        projection = model.visual_projection
        self.pooled_dim = config.hidden_size if projection is None else projection.out_features
        self.wants: Wants = Pictures(Evenly(self.frames), Square(self.size))

    def copy_to(self, device: str) -> VideoEncoder:
        """The same encoder on another device."""
        return VideoEncoder(deepcopy(self.model), self.layer, device, self.dtype)

    def preprocess(self, frames: npt.NDArray[np.uint8] | Tensor) -> Tensor:
        """Frames of one clip, uint8 [T, H, W, 3], to pixels, float32 [3, T, S, S] on the CPU.

        Raises:
            MediaError: `frames` has another dtype or shape.
        """
        return torch.from_numpy(preprocess_frames(np.asarray(frames), self.size))

    def inputs(self, clip: Decoded) -> Tensor:
        """Pixels, which the decoding worker has made."""
        return torch.as_tensor(clip.array)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch of clips.

        Args:
            pixels: [B, 3, T, S, S] on any device.

        Returns:
            Features [B, T, N, C] in the encoder's dtype: `hidden_states[layer]`, CLS kept; and pooled, float32 [B, D],
            of length 1: the video embedding, or the pooler output where the checkpoint has no projection.
        """
        wanted = self.layer % (self.model.config.num_hidden_layers + 1)
        features = last = pixels
        for number, last in enumerate(self.model.states(pixels.to(self.device, self.dtype))):
            features = last if number == wanted else features
        return features, functional.normalize(self.model.pool(last).float(), dim=-1)

    def fingerprint(self, decoder: str = DEFAULT_DECODER) -> dict[str, Any]:
        """Everything that decides the features' values, of clips that a decoder read."""
        preprocessing = {
            "frames": self.frames,
            "sampling": "linspace-truncated",
            "size": self.size,
            "scale": "short-side-bilinear",
            "crop": "centre",
            "mean": list(CLIP_MEAN),
            "std": list(CLIP_STD),
        }
        preprocessing[DECODER] = decoder
        return _fingerprint(self.name, self.model.weights_sha256, preprocessing, self.layer, self.dtype)


class AudioEncoder(FixedRows):
    """Whisper's encoder as the pipeline uses it.

    Attributes:
        name: Folder name in the store.
        samples: Length of its input, at 16 kHz.
        row_shape: (S, C) of one clip's features.
        pooled_dim: D of the pooled vector.
    """

    slot, name = "audio", "whisper"
    modality: Literal["visual", "audio"] = "audio"

    def __init__(self, loaded: LoadedWhisper, device: str, dtype: torch.dtype) -> None:
        self.module, self.shape, self.weights_sha256 = loaded.module, loaded.shape, loaded.weights_sha256
        cast_weights(self.module, dtype)
        self.module.to(device)
        self.device, self.dtype = torch.device(device), dtype
        self.samples = 2 * self.shape.n_audio_ctx * HOP_LENGTH
        self.row_shape: RowShape = (self.shape.n_audio_ctx, self.shape.n_audio_state)
        self.pooled_dim = self.shape.n_audio_state
        self.wants: Wants = Sound(self.samples)

    def copy_to(self, device: str) -> AudioEncoder:
        """The same encoder on another device."""
        return AudioEncoder(LoadedWhisper(deepcopy(self.module), self.shape, self.weights_sha256), device, self.dtype)

    def preprocess(self, waveform: npt.NDArray[np.float32] | Tensor) -> Tensor:
        """Samples of one clip to a log-mel spectrogram.

        Args:
            waveform: float32 [samples] at 16 kHz; cut or padded with zeros to the encoder's context.

        Returns:
            float32 [n_mels, 2 * n_audio_ctx] on the encoder's device.
        """
        samples = torch.as_tensor(waveform, dtype=torch.float32, device=self.device)
        audio = openai_whisper("audio")
        return cast(Tensor, audio.log_mel_spectrogram(audio.pad_or_trim(samples, self.samples), self.shape.n_mels))

    def inputs(self, clip: Decoded) -> Tensor:
        """A clip's log-mel spectrogram."""
        return self.preprocess(torch.as_tensor(clip.array))

    @torch.no_grad()
    def encode(self, mels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch of clips.

        Args:
            mels: [B, n_mels, 2 * n_audio_ctx] on any device.

        Returns:
            Features [B, S, C] in the encoder's dtype, after its last norm; and pooled, float32 [B, C], of length 1:
            their mean over time.

        Raises:
            CheckpointError: The mels have another shape than the checkpoint was made for.
        """
        expected = (self.shape.n_mels, 2 * self.shape.n_audio_ctx)
        if tuple(mels.shape[1:]) != expected:
            raise CheckpointError(f"This Whisper encoder takes mels {expected}, not {tuple(mels.shape[1:])}.")
        features = self.module(mels.to(self.device, self.dtype))
        return features, functional.normalize(features.float().mean(dim=1), dim=-1)

    def fingerprint(self, decoder: str = DEFAULT_DECODER) -> dict[str, Any]:
        """Everything that decides the features' values, of clips that a decoder read."""
        preprocessing = {"rate_hz": SAMPLE_RATE, "channels": 1, "mel": "openai-whisper", **asdict(self.shape)}
        preprocessing[DECODER] = decoder
        return _fingerprint(self.name, self.weights_sha256, preprocessing, -1, self.dtype)


def _fingerprint(
    name: str, weights: str, preprocessing: dict[str, Any], layer: int, dtype: torch.dtype
) -> dict[str, Any]:
    return {
        "encoder": name,
        "weights_sha256": weights,
        "preprocessing": preprocessing,
        "layer": layer,
        "dtype": str(dtype).removeprefix("torch."),
    }


def _video_languagebind(path: Path, layer: int, device: str, dtype: torch.dtype) -> VideoEncoder:
    return VideoEncoder(load_languagebind(path), layer, device, dtype)


def _audio_whisper(path: Path, device: str, dtype: torch.dtype) -> AudioEncoder:
    return AudioEncoder(load_whisper(path), device, dtype)


VIDEO_ENCODERS: dict[str, Callable[[Path, int, str, torch.dtype], VideoEncoder]] = {
    "LanguageBindVideo": _video_languagebind,
}
"""Loaders by the `model_type` of `config.json`."""
AUDIO_ENCODERS: dict[str, Callable[[Path, str, torch.dtype], AudioEncoder]] = {"whisper": _audio_whisper}
"""Loaders by the `model_type` of `config.json`; a bare `.pt` file is Whisper."""


def load_video_encoder(
    name_or_path: str | Path, layer: int = -2, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> VideoEncoder:
    """Load a video encoder from a folder or a hub id.

    Args:
        name_or_path: A checkpoint folder, or a hub id such as `LanguageBind/LanguageBind_Video_merge`.
        layer: Which hidden state is the features; -2 is the output of the last layer but one.
        device: Where it runs, such as `cpu` or `cuda:0`.
        dtype: float32, float16 or bfloat16.

    Raises:
        MissingFileError: The checkpoint is not on this machine and can't be fetched from the hub.
        CheckpointError: It is not a video encoder that avem reads.
        SettingError: The layer does not exist.
    """
    path = locate_model(name_or_path, "--video-encoder")
    return VIDEO_ENCODERS[_model_type(path, VIDEO_ENCODERS, "LanguageBindVideo", "video")](path, layer, device, dtype)


def load_audio_encoder(
    name_or_path: str | Path, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> AudioEncoder:
    """Load an audio encoder from a folder, an openai `.pt` file, or a hub id.

    Args:
        name_or_path: A checkpoint folder or file, or a hub id such as `openai/whisper-large-v3`.
        device: Where it runs, such as `cpu` or `cuda:0`.
        dtype: float32, float16 or bfloat16.

    Raises:
        MissingFileError: The checkpoint is not on this machine and can't be fetched from the hub.
        CheckpointError: It is not an audio encoder that avem reads.
    """
    path = locate_model(name_or_path, "--audio-encoder")
    return AUDIO_ENCODERS[_model_type(path, AUDIO_ENCODERS, "whisper", "audio")](path, device, dtype)


def _model_type(path: Path, loaders: Mapping[str, object], default: str, kind: str) -> str:
    """What `config.json` says the checkpoint is, if there is a loader for it; the default where it says nothing."""
    config = path / "config.json"
    model_type = str(read_json(config).get("model_type", default)) if config.is_file() else default
    if model_type not in loaders:
        raise CheckpointError(
            f"{path} holds a {model_type!r} model, which is not a supported {kind} encoder; choose one of "
            f"{', '.join(loaders)}."
        )
    return model_type
