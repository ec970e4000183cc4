"""The encoders of one extraction, loaded as its options say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from avem.cache import StreamSpec
from avem.errors import MediaError, SettingError
from avem.extract.decode.task import DecodedClip
from avem.extract.decode.wants import Pictures, Sound
from avem.extract.encoders.base import Decoded, StreamEncoder
from avem.extract.encoders.sources import Source, find_sources
from avem.extract.options import AUTO, ExtractOptions


@dataclass(frozen=True, slots=True)
class Encoders:
    """The encoders that a run uses, by slot."""

    by_slot: Mapping[str, StreamEncoder]
    sources: Mapping[str, Source]
    """What each was loaded from."""

    def get(self, slot: str) -> StreamEncoder:
        """A slot's encoder.

        Raises:
            SettingError: The run has none for this slot.
        """
        if slot not in self.by_slot:
            raise SettingError(f"This run does not extract {slot}; add it to --streams.")
        return self.by_slot[slot]

    @property
    def on_gpu(self) -> bool:
        """Whether they run on a GPU."""
        return any(encoder.device.type == "cuda" for encoder in self.by_slot.values())

    @property
    def ragged(self) -> bool:
        """Whether rows of any of their streams differ in length."""
        return any(encoder.row_shape[0] is None for encoder in self.by_slot.values())

    @property
    def pictures(self) -> tuple[Pictures, ...]:
        """What they want of a clip's pictures, each once."""
        wants = (encoder.wants for encoder in self.by_slot.values())
        return tuple(dict.fromkeys(wanted for wanted in wants if isinstance(wanted, Pictures)))

    @property
    def samples(self) -> int:
        """Samples of sound that they take at most."""
        wants = (encoder.wants for encoder in self.by_slot.values())
        return max((wanted.samples for wanted in wants if isinstance(wanted, Sound)), default=1)

    def copy_to(self, device: str) -> Encoders:
        """The same encoders on another device."""
        return Encoders({slot: encoder.copy_to(device) for slot, encoder in self.by_slot.items()}, self.sources)

    def part(self, slot: str) -> str:
        """Which part of a clip a slot's encoder needs decoded: `video` or `audio`."""
        return "video" if isinstance(self.get(slot).wants, Pictures) else "audio"

    def specs(self, options: ExtractOptions) -> dict[str, StreamSpec]:
        """Descriptions of the streams to be written, by slot."""
        return {slot: self._spec(slot, encoder, options) for slot, encoder in self.by_slot.items()}

    def _spec(self, slot: str, encoder: StreamEncoder, options: ExtractOptions) -> StreamSpec:
        source = self.sources[slot]
        dtype = source.dtype if options.dtype == AUTO else options.dtype
        ragged: dict[str, Any] = {"longest": encoder.longest} if encoder.longest else {}
        return StreamSpec(
            slot,
            encoder.name,
            encoder.fingerprint(options.decoder),
            encoder.row_shape,
            encoder.pooled_dim,
            dtype,
            min(options.rows_per_shard, source.rows_per_shard),
            encoder.modality,
            encoder.companions_as(dtype),
            **ragged,
        )

    def inputs(self, slot: str, clip: DecodedClip, length_s: float | None = None) -> Any:
        """An encoder's input: what needs torch and its device is made here, the rest in the worker.

        Args:
            slot: Which encoder's.
            clip: From a worker, with the part that the encoder needs.
            length_s: Of the clip, or of the window of it.

        Raises:
            MediaError: The encoder can't use the clip.
        """
        encoder = self.get(slot)
        if isinstance(encoder.wants, Pictures):
            array = None if clip.pictures is None else clip.pictures[self.pictures.index(encoder.wants)]
            decoded = (
                None if array is None else Decoded(array, length_s or 0.0, clip.total_frames or 0, clip.fps or 0.0)
            )
        else:
            decoded = None if clip.sound is None else Decoded(clip.sound[: encoder.wants.samples], length_s or 0.0)
        if decoded is None:
            raise MediaError(f"The {slot} of the clip was not decoded.")
        return encoder.inputs(decoded)


def load_encoders(
    options: ExtractOptions, devices: Sequence[str], sources: Mapping[str, Source] | None = None
) -> list[Encoders]:
    """Load what the options ask for on every device, in the precision they ask for.

    Args:
        options: Encoders, streams and precision.
        devices: From `device_list`.
        sources: From `find_sources`, where it was asked already.

    Returns:
        Encoders on each device; the files are read once.

    Raises:
        MissingFileError: A checkpoint can't be found or fetched.
        CheckpointError: A checkpoint is not what avem reads.
    """
    sources = find_sources(options) if sources is None else sources
    on_gpu, first = _is_gpu(devices[0]), devices[0]

    def precision(source: Source) -> torch.dtype:
        auto = source.gpu_precision if on_gpu else "float32"
        return getattr(torch, auto if options.precision == AUTO else options.precision)  # type: ignore[no-any-return]

    by_slot = {slot: source.load(first, precision(source)) for slot, source in sources.items()}
    loaded = Encoders(by_slot, sources)
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
