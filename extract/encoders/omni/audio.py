"""The thinker's audio tower: sound of its true length to the tokens that its language model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from avem.cache import Companion
from avem.cache.decoders import DECODER
from avem.errors import CheckpointError
from avem.extract.decode.decoded import MAX_SOUND_S, RATE_HZ
from avem.extract.decode.wants import Sound, Wants
from avem.extract.encoders.base import Decoded, Encoded, RowShape
from avem.extract.encoders.omni.sizes import AUDIO_COMPANIONS, AUDIO_LONGEST
from avem.extract.encoders.omni.towers import load_tower
from avem.hub.omni import OmniFolder

if TYPE_CHECKING:
    from transformers import WhisperFeatureExtractor

PADDED_FAMILIES = ("qwen2_5_omni",)
"""Families whose processor puts zeros behind the sound before its spectrogram; Qwen3-Omni's mirrors its end."""
ZEROS_S = 1
"""Seconds of zeros. The processor puts far more, and a spectrogram's column sees 25 ms."""


class Clip(NamedTuple):
    """What the tower takes of one clip."""

    mel: Tensor
    """float32 [mel bins, mel frames], 100 a second."""


@dataclass(frozen=True, slots=True)
class LoadedAudio:
    """An audio tower with what is known of it."""

    module: nn.Module
    family: str
    weights_sha256: str
    extractor: WhisperFeatureExtractor
    hidden_size: int


def feature_extractor(folder: OmniFolder) -> WhisperFeatureExtractor:
    """The folder's feature extractor, transformers' own.

    Raises:
        CheckpointError: Its settings can't be used, or contradict the tower.
    """
    from transformers import WhisperFeatureExtractor

    bins = int(folder.config.audio_config.num_mel_bins)
    names = ("feature_size", "sampling_rate", "hop_length", "chunk_length", "n_fft", "padding_value", "dither")
    stated = {name: folder.feature_extractor[name] for name in names if name in folder.feature_extractor}
    try:
        extractor = WhisperFeatureExtractor(**{"feature_size": bins, **stated})
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"The feature extractor of {folder.path} can't be used ({error}).") from error
    if extractor.feature_size != bins or extractor.sampling_rate != RATE_HZ or extractor.dither:
        raise CheckpointError(
            f"The feature extractor of {folder.path} makes {extractor.feature_size} mel bins of sound at "
            f"{extractor.sampling_rate} Hz with dither {extractor.dither}; its tower takes {bins} of {RATE_HZ} Hz "
            "without dither."
        )
    return extractor


class OmniAudio:
    """The audio tower as the pipeline uses it; see `StreamEncoder` for its attributes."""

    slot = "audio"
    modality: Literal["visual", "audio"] = "audio"
    longest = AUDIO_LONGEST

    def __init__(self, loaded: LoadedAudio, device: str, dtype: torch.dtype) -> None:
        self.loaded, self.device, self.dtype = loaded, torch.device(device), dtype
        self.name = loaded.family
        self.row_shape: RowShape = (None, loaded.hidden_size)
        self.pooled_dim = loaded.hidden_size
        self.wants: Wants = Sound(MAX_SOUND_S * RATE_HZ)

    @classmethod
    def open(cls, folder: OmniFolder, device: str = "cpu", dtype: torch.dtype = torch.float32) -> OmniAudio:
        """Load a folder's audio tower.

        Raises:
            AvemError: The folder is not whole, or its weights do not fit its configuration.
        """
        extractor = feature_extractor(folder)
        module = load_tower(folder, "audio", device, dtype)
        hidden = int(folder.config.audio_config.output_dim)
        return cls(LoadedAudio(module, folder.family, folder.tower_digest("audio"), extractor, hidden), device, dtype)

    def companions_as(self, dtype: str) -> Mapping[str, Companion]:
        """See `StreamEncoder`: how many mel frames a clip has."""
        return AUDIO_COMPANIONS

    def copy_to(self, device: str) -> OmniAudio:
        """See `StreamEncoder`."""
        copied = replace(self.loaded, module=deepcopy(self.loaded.module).to(device))
        return OmniAudio(copied, device, self.dtype)

    def preprocess(self, waveform: npt.NDArray[np.float32]) -> Tensor:
        """Sound to its log-mel spectrogram, of its own length alone.

        Args:
            waveform: float32 [samples] at 16 kHz.

        Returns:
            float32 [mel bins, mel frames].
        """
        extractor = self.loaded.extractor
        padding: dict[str, Any] = {"padding": "longest", "truncation": False}
        if self.name in PADDED_FAMILIES:
            hop = extractor.hop_length
            most = -(-(len(waveform) + ZEROS_S * RATE_HZ) // hop) * hop
            padding = {"padding": "max_length", "max_length": min(most, extractor.n_samples)}
        made = extractor(waveform, sampling_rate=RATE_HZ, return_attention_mask=True, return_tensors="pt", **padding)
        frames = int(made["attention_mask"].sum())
        return torch.as_tensor(made["input_features"][0, :, :frames])

    def inputs(self, clip: Decoded) -> Clip:
        """See `StreamEncoder`."""
        return Clip(self.preprocess(np.asarray(clip.array, np.float32)))

    @torch.no_grad()
    def encode_clips(self, inputs: Sequence[Clip], /) -> Encoded:
        """Encode clips one by one, so that a row is what transformers makes of the clip alone, to the last bit."""
        features = [self._encode(clip.mel) for clip in inputs]
        pooled = torch.stack([row.float().mean(dim=0) for row in features])
        lengths = [torch.tensor(clip.mel.shape[1], dtype=torch.int32) for clip in inputs]
        return Encoded(features, functional.normalize(pooled, dim=-1), {"mel_frames": lengths})

    def _encode(self, mel: Tensor) -> Tensor:
        """Features of one clip, [m, H]."""
        lengths = torch.tensor([mel.shape[1]], device=self.device)
        output: Any = self.loaded.module(mel.to(self.device), feature_lens=lengths)
        features: Tensor = output.last_hidden_state
        return features

    def fingerprint(self, decoder: str) -> dict[str, Any]:
        """See `StreamEncoder`."""
        extractor = self.loaded.extractor
        preprocessing = {
            "rate_hz": RATE_HZ,
            "channels": 1,
            "mel": "whisper",
            "n_mels": extractor.feature_size,
            "n_fft": extractor.n_fft,
            "hop_length": extractor.hop_length,
            "padding": "zeros" if self.name in PADDED_FAMILIES else "none",
            DECODER: decoder,
        }
        return {
            "encoder": self.name,
            "weights_sha256": self.loaded.weights_sha256,
            "preprocessing": preprocessing,
            "layer": "projection",
            "dtype": str(self.dtype).removeprefix("torch."),
        }


def load_omni_audio(path: str | Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> OmniAudio:
    """Load the audio tower of a Qwen-Omni folder.

    Args:
        path: The folder.
        device: Where it runs.
        dtype: float32, float16 or bfloat16.

    Raises:
        AvemError: The folder can't be used.
    """
    return OmniAudio.open(OmniFolder.open(path), device, dtype)
