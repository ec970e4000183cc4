"""Features of the clips a run needs: kept in memory where they fit, otherwise read one step ahead."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from avem.train.data.noise import FeatureNoise, noise_row
from avem.train.packing.specs import Media, ScoreSpec

if TYPE_CHECKING:
    from avem.cache import FeatureStore
    from avem.cache.records import Kind

logger = logging.getLogger(__name__)

ROWS_PER_READ = 64
"""Rows that are read at once while features are brought into memory."""


class ClipFeatures:
    """Gives the features that specs name.

    Args:
        store: Where they are.
        specs: Everything the run will score.
        device: Where they are wanted.
        keep_mb: Features are kept in memory if all that the specs name fit in this many MiB.
        dtype: Their number format; None for the store's.
        noise: Makes the features that negative numbers in specs stand for.
    """

    def __init__(
        self,
        store: FeatureStore,
        specs: Iterable[ScoreSpec],
        device: torch.device,
        keep_mb: int,
        dtype: torch.dtype | None = None,
        noise: FeatureNoise | None = None,
    ) -> None:
        self._store, self._device, self._dtype, self._noise = store, device, dtype, noise
        videos, audios = _rows(specs)
        size = len(videos) * _row_bytes(store, "video", videos) + len(audios) * _row_bytes(store, "audio", audios)
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

    def _read(self, kind: Kind, rows: list[int]) -> dict[int, Tensor]:
        found: dict[int, Tensor] = {}
        for start in range(0, len(rows), ROWS_PER_READ):
            part = rows[start : start + ROWS_PER_READ]
            features = self._store.features(kind, [max(row, noise_row(row)) for row in part])
            for index, row in enumerate(part):
                if row < 0 and self._noise is not None:
                    features[index] = self._noise(kind, noise_row(row), features[index])
            features = features.to(self._device, self._dtype, non_blocking=True)
            found.update(zip(part, features.unbind(), strict=True))
        return found


def _rows(specs: Iterable[ScoreSpec]) -> tuple[list[int], list[int]]:
    videos: set[int] = set()
    audios: set[int] = set()
    for spec in specs:
        if spec.video is not None:
            videos.add(spec.video)
        if spec.audio is not None:
            audios.add(spec.audio)
    return sorted(videos), sorted(audios)


def _row_bytes(store: FeatureStore, kind: Kind, rows: list[int]) -> int:
    if not rows:
        return 0
    return store.features(kind, [max(rows[0], noise_row(rows[0]))]).nbytes
