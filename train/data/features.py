"""Features of the clips a run needs: kept in memory where they fit, otherwise read one step ahead."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from avem.train.data.noise import FeatureNoise, noise_row
from avem.train.data.streams import ClipStreams
from avem.train.model.media import Medium, Side
from avem.train.packing.specs import Media, ScoreSpec

if TYPE_CHECKING:
    from avem.cache import FeatureStore

logger = logging.getLogger(__name__)

ROWS_PER_READ = 64
"""Rows that are read at once while features are brought into memory."""


class ClipFeatures:
    """Gives the features that specs name.

    Args:
        source: A store's streams for a model; of a store alone its video and audio stream are taken.
        specs: Everything the run will score.
        device: Where they are wanted.
        keep_mb: Features are kept in memory if all that the specs name fit in this many MiB.
        dtype: Their number format; None for the store's.
        noise: Makes the features that negative numbers in specs stand for.
    """

    def __init__(
        self,
        source: ClipStreams | FeatureStore,
        specs: Iterable[ScoreSpec],
        device: torch.device,
        keep_mb: int,
        dtype: torch.dtype | None = None,
        noise: FeatureNoise | None = None,
    ) -> None:
        self._streams = source if isinstance(source, ClipStreams) else ClipStreams(source)
        self._device, self._dtype, self._noise = device, dtype, noise
        videos, audios = _rows(specs)
        size = self._bytes("video", videos) + self._bytes("audio", audios)
        self._kept = size <= keep_mb << 20
        self._media = Media({}, {})
        if self._kept:
            logger.debug("Keeping %.1f MiB of features in memory", size / (1 << 20))
            self._media = Media(self._read("video", videos), self._read("audio", audios))

    def media(self, specs: Iterable[ScoreSpec]) -> Media:
        """At least the features that the specs name; each kind is read in one call."""
        if self._kept:
            return self._media
        videos, audios = _rows(specs)
        return Media(self._read("video", videos), self._read("audio", audios))

    def stream(self, steps: Sequence[Sequence[ScoreSpec]]) -> Iterator[Media]:
        """Features of each step, read while the step before is computed."""
        if self._kept or not steps:
            yield from (self._media for _ in steps)
            return
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="features") as reader:
            ahead = reader.submit(self.media, steps[0])
            for following in steps[1:]:
                ready, ahead = ahead.result(), reader.submit(self.media, following)
                yield ready
            yield ahead.result()

    def _bytes(self, side: Side, rows: Iterable[int]) -> int:
        return sum(self._streams.size(side, max(row, noise_row(row))) for row in rows)

    def _read(self, side: Side, rows: list[int]) -> dict[int, Medium]:
        found: dict[int, Medium] = {}
        for start in range(0, len(rows), ROWS_PER_READ):
            part = rows[start : start + ROWS_PER_READ]
            media = self._streams.read(
                side,
                [max(row, noise_row(row)) for row in part],
                device=self._device,
                dtype=self._dtype,
                alter={index: partial(self._alter, row) for index, row in enumerate(part) if row < 0},
            )
            found.update(zip(part, media, strict=True))
        return found

    def _alter(self, row: int, name: str, features: Tensor) -> Tensor:
        """A clip's features under noise, where there is any to put on them."""
        return features if self._noise is None else self._noise(name, noise_row(row), features)


def _rows(specs: Iterable[ScoreSpec]) -> tuple[list[int], list[int]]:
    videos: set[int] = set()
    audios: set[int] = set()
    for spec in specs:
        if spec.video is not None:
            videos.add(spec.video)
        if spec.audio is not None:
            audios.add(spec.audio)
    return sorted(videos), sorted(audios)
