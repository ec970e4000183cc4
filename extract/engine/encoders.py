"""The encoders of one extraction, loaded as its options say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avem.cache import StreamSpec
from avem.cache.records import Kind
from avem.errors import SettingError
from avem.extract.decode.task import DecodedClip
from avem.extract.encoders.registry import AudioEncoder, VideoEncoder, load_audio_encoder, load_video_encoder
from avem.extract.options import ExtractOptions


@dataclass(frozen=True, slots=True)
class Encoders:
    """The encoders that a run uses; None for a stream that is not extracted."""

    video: VideoEncoder | None
    audio: AudioEncoder | None

    def get(self, kind: Kind) -> VideoEncoder | AudioEncoder:
        """A stream's encoder.

        Raises:
            SettingError: The run has none for this stream.
        """
        encoder = self.video if kind == "video" else self.audio
        if encoder is None:
            raise SettingError(f"This run does not extract {kind}; add it to --streams.")
        return encoder

    @property
    def on_gpu(self) -> bool:
        """Whether they run on a GPU."""
        return any(encoder.device.type == "cuda" for encoder in (self.video, self.audio) if encoder is not None)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """What decoding needs to know: frames a clip, side in pixels, samples of sound."""
        frames, size = (self.video.frames, self.video.size) if self.video else (1, 1)
        return frames, size, self.audio.samples if self.audio else 1

    def copy_to(self, device: str) -> Encoders:
        """The same encoders on another device."""
        return Encoders(
            None if self.video is None else self.video.copy_to(device),
            None if self.audio is None else self.audio.copy_to(device),
        )

    def specs(self, options: ExtractOptions) -> dict[Kind, StreamSpec]:
        """Descriptions of the streams to be written."""
        specs = {}
        for kind in options.streams:
            encoder = self.get(kind)
            specs[kind] = StreamSpec(
                kind,
                encoder.name,
                encoder.fingerprint(options.decoder),
                encoder.row_shape,
                encoder.pooled_dim,
                options.dtype,
                options.rows_per_shard,
            )
        return specs

    def inputs(self, kind: Kind, clip: DecodedClip) -> Tensor:
        """An encoder's input: pixels were made by the worker, mels are made here, where torch and its device are."""
        if kind == "video":
            return torch.as_tensor(clip.pixels)
        if self.audio is None:
            raise SettingError("This run does not extract audio; add it to --streams.")
        return self.audio.preprocess(torch.as_tensor(clip.sound))


def load_encoders(options: ExtractOptions, devices: Sequence[str]) -> list[Encoders]:
    """Load what the options ask for on every device, in the precision they ask for.

    Args:
        options: Encoders, streams and precision.
        devices: From `device_list`.

    Returns:
        Encoders on each device; the files are read once.

    Raises:
        MissingFileError: A checkpoint can't be found or fetched.
        CheckpointError: A checkpoint is not what avem reads.
    """
    on_gpu = _is_gpu(devices[0])
    precision = options.precision if options.precision != "auto" else "float16" if on_gpu else "float32"
    first, dtype = devices[0], getattr(torch, precision)
    video = load_video_encoder(options.video_encoder, device=first, dtype=dtype) if "video" in options.streams else None
    audio = load_audio_encoder(options.audio_encoder, device=first, dtype=dtype) if "audio" in options.streams else None
    loaded = Encoders(video, audio)
    return [loaded, *(loaded.copy_to(device) for device in devices[1:])]


def device_list(options: ExtractOptions) -> list[str]:
    """The devices that are meant: `auto` is every GPU of this machine, or else its processor.

    Raises:
        SettingError: A device can't be used here.
    """
    devices = list(options.device_names)
    if devices == ["auto"]:
        devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]
    on_gpu = [_is_gpu(device) for device in devices]
    if any(on_gpu) != all(on_gpu):
        raise SettingError(f"--device {options.device} mixes GPUs and processors, whose features would differ.")
    return devices


def _is_gpu(device: str) -> bool:
    try:
        return bool(torch.zeros(1, device=device).is_cuda)
    except (RuntimeError, AssertionError) as error:
        raise SettingError(f"--device {device} can't be used here ({str(error).splitlines()[0]}).") from error
