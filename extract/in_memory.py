"""Features of single clips in memory: the same decoding, encoders and rounding as extraction, and nothing on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from avem.cache.windows import Span, window_spans
from avem.errors import MediaError, SettingError
from avem.extract.decode.pool import DecodePool
from avem.extract.decode.task import DecodedClip, DecodeTask
from avem.extract.encoders.sources import find_sources
from avem.extract.engine.assemble import encode_within_memory, kept
from avem.extract.engine.device import row_details
from avem.extract.engine.encoders import Encoders, device_list, load_encoders
from avem.extract.options import ExtractOptions

if TYPE_CHECKING:
    from avem.cache import StreamSpec


@dataclass(frozen=True, slots=True)
class ClipPart:
    """A media file, or a window of it."""

    path: Path
    span: Span | None = None
    """Seconds after the first frame; None is all frames and the first 30 s of sound."""


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """One stream of one clip, as a store would keep it."""

    features: Tensor
    """`[*row_shape]` in the stream's type, on the processor."""
    companions: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EncodedPart:
    """What became of a clip."""

    rows: dict[str, EncodedRow]
    """By slot; a stream that could not be made is missing."""
    problems: dict[str, str]
    """By slot, why it is missing."""
    duration_s: float | None
    """Length of the clip, or of the window of it; None where nothing could be decoded."""


class ClipEncoder:
    """The encoders that a model reads, loaded once, for clips that come one by one.

    Each clip is encoded by itself, so its features do not depend on the clips around it. They equal those of a store
    that was extracted with the same options and one clip a batch, bit for bit. In larger batches some encoders round
    differently.

    Args:
        options: Which encoders, device, precision and number of decoding processes.

    Raises:
        AvemError: An encoder can't be found or used.

    Example:
        >>> encoder = ClipEncoder(ExtractOptions(model="Qwen/Qwen2.5-Omni-7B"))  # doctest: +SKIP
        >>> next(encoder.encode([ClipPart(Path("clip.mp4"))])).rows["audio"].features.shape  # doctest: +SKIP
        torch.Size([75, 3584])
    """

    def __init__(self, options: ExtractOptions) -> None:
        if options.dtype == "int8":
            raise SettingError("Features in memory are not kept as int8; leave --dtype at auto.")
        self.options = options
        sources = find_sources(options)
        self._encoders: Encoders = load_encoders(options, device_list(options)[:1], sources)[0]
        self.specs: dict[str, StreamSpec] = self._encoders.specs(options)
        """The streams that it makes, by slot."""

    def encode(self, parts: Sequence[ClipPart]) -> Iterator[EncodedPart]:
        """Decode clips in worker processes and encode each as it arrives.

        Args:
            parts: The clips; their features come in this order, one at a time.
        """
        needed = tuple(dict.fromkeys(self._encoders.part(slot) for slot in self.specs))
        pictures, samples = self._encoders.pictures, self._encoders.samples
        tasks = [
            DecodeTask(
                number, str(part.path), str(part.path), needed, pictures, samples, self.options.decoder, part.span
            )
            for number, part in enumerate(parts)
        ]
        workers = max(min(self.options.worker_count, len(tasks)), 1)
        with DecodePool(workers) as pool:
            for task, clip in pool.map(tasks, 2 * workers):
                yield self._encode(task, clip)

    def _encode(self, task: DecodeTask, clip: DecodedClip) -> EncodedPart:
        rows: dict[str, EncodedRow] = {}
        problems: dict[str, str] = {}
        lengths = []
        for slot, spec in self.specs.items():
            part = self._encoders.part(slot)
            error = clip.video_error if part == "video" else clip.sound_error
            details = row_details(part, clip, error, task)
            lengths.append(details.duration_s)
            try:
                if error:
                    raise MediaError(error)
                inputs = self._encoders.inputs(slot, clip, details.duration_s)
            except MediaError as unfit:
                problems[slot] = str(unfit)
                continue
            encoded = kept(encode_within_memory(self._encoders.get(slot), [inputs])[0], spec)
            companions = {name: values[0] for name, values in encoded.companions.items()}
            rows[slot] = EncodedRow(encoded.features[0], companions)
        return EncodedPart(rows, problems, max((length for length in lengths if length is not None), default=None))


def clip_parts(paths: Sequence[Path], *, windows: bool = True, workers: int = 1) -> list[list[ClipPart]]:
    """The parts in which clips are encoded: whole, or in windows of 30 s where they are longer.

    Lengths are measured as `avem extract --long windows` measures them. A file that can't be read stays whole, and
    decoding says what is wrong with it.

    Args:
        paths: Media files.
        windows: Whether long clips are divided.
        workers: Processes that measure.
    """
    if not windows or not paths:
        return [[ClipPart(path)] for path in paths]
    tasks = [DecodeTask(number, str(path), str(path), wants=("length",)) for number, path in enumerate(paths)]
    workers = max(min(workers, len(tasks)), 1)
    with DecodePool(workers) as pool:
        lengths = [answer.duration_s or 0.0 for _, answer in pool.map(tasks, 4 * workers)]
    return [
        [ClipPart(path, span) for span in window_spans(length)] or [ClipPart(path)]
        for path, length in zip(paths, lengths, strict=True)
    ]
