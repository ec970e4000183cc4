"""Near-duplicates between training clips and benchmark clips: re-encoded or trimmed copies that digests do not find.

Clips are compared by pooled features, and pairs that are close are compared again by a perceptual hash of their frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from avem.errors import FingerprintError, MediaError
from avem.evaluate.sheets import Sheet
from avem.extract import sample_frames
from avem.progress import stage

if TYPE_CHECKING:
    from avem.cache import FeatureStore
    from avem.records import Kind

THRESHOLD = 0.98
"""Least cosine similarity of pooled features of a pair that is looked at."""
HASH_FRAMES = 5
HASH_SIDE = 8
NEAR_BITS = 10
"""Most of a frame's 64 bits in which copies differ."""
BLOCK = 2048
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two clips that may be one."""

    train: str
    benchmark: str
    similarity: float
    """Cosine of the pooled features, the largest over streams."""
    stream: str
    bits: int | None
    """Fewest differing bits between a frame of one and a frame of the other; None where a file is not there."""

    @property
    def same(self) -> bool:
        """Whether the frames say so too; without frames, the features alone decide."""
        return self.bits is None or self.bits <= NEAR_BITS


def near_pairs(train: FeatureStore, benchmark: FeatureStore, threshold: float = THRESHOLD) -> list[NearPair]:
    """Pairs of clips of two stores whose pooled features are close, the closest first.

    Args:
        train: Store of the training clips.
        benchmark: Store of the benchmark's clips, extracted with the same encoders.
        threshold: Least cosine similarity.

    Raises:
        FingerprintError: The stores share no stream of the same encoder.
    """
    shared: list[Kind] = [
        kind
        for kind in train.kinds
        if kind in benchmark.kinds and train.fingerprint(kind) == benchmark.fingerprint(kind)
    ]
    if not shared:
        raise FingerprintError(
            "The two stores share no stream of the same encoder, so features can't be compared; extract both alike."
        )
    names = [store.clips["clip_id"].to_pylist() for store in (train, benchmark)]
    best: dict[tuple[int, int], tuple[float, str]] = {}
    for kind in shared:
        for left, right, value in _close(_unit(train, kind), _unit(benchmark, kind), threshold):
            if value > best.get((left, right), (-1.0, ""))[0]:
                best[left, right] = (value, kind)
    hashes: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})
    pairs = []
    with stage("near-duplicates", len(best), "pairs") as bar:
        for (left, right), (value, stream) in best.items():
            own = _hashes(train, left, hashes[0])
            theirs = _hashes(benchmark, right, hashes[1])
            bits = min((bin(a ^ b).count("1") for a in own for b in theirs), default=None)
            pairs.append(NearPair(names[0][left], names[1][right], value, stream, bits))
            bar.advance()
    return sorted(pairs, key=lambda pair: (not pair.same, -pair.similarity, pair.train))


def _unit(store: FeatureStore, kind: Kind) -> Floats:
    """Pooled features of length one, float32 [clips, D]; zeros where a clip has none."""
    pooled = np.asarray(store.pooled(kind), dtype=np.float32).copy()
    pooled[~np.asarray(store.available(kind))] = 0
    length = np.linalg.norm(pooled, axis=1, keepdims=True)
    return np.asarray(np.divide(pooled, length, out=np.zeros_like(pooled), where=length > 0), dtype=np.float32)


def _close(left: Floats, right: Floats, threshold: float) -> list[tuple[int, int, float]]:
    """Rows of two arrays whose product reaches the threshold, block by block."""
    found = []
    for start in range(0, len(left), BLOCK):
        products = left[start : start + BLOCK] @ right.T
        rows, columns = np.nonzero(products >= threshold)
        found += [(start + int(r), int(c), float(products[r, c])) for r, c in zip(rows, columns, strict=True)]
    return found


def _hashes(store: FeatureStore, row: int, known: dict[int, list[int]]) -> list[int]:
    """Hashes of a clip's frames; none where its file is not there or can't be decoded."""
    if row not in known:
        path = store.media_path(row)
        try:
            known[row] = [frame_hash(frame) for frame in sample_frames(path, HASH_FRAMES)] if path.is_file() else []
        except MediaError:
            known[row] = []
    return known[row]


def frame_hash(frame: npt.NDArray[np.uint8]) -> int:
    """Difference hash of a frame: 64 bits, whether each cell of a 9 x 8 grid is darker than the one right of it.

    Args:
        frame: uint8 [H, W, 3].
    """
    grey = Image.fromarray(frame).convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.LANCZOS)
    cells = np.asarray(grey, dtype=np.int16)
    return int("".join("1" if bit else "0" for bit in (cells[:, 1:] > cells[:, :-1]).ravel()), 2)


def near_sheet(pairs: Sequence[NearPair]) -> Sheet:
    """One row a pair."""
    rows = tuple(
        (
            pair.train,
            pair.benchmark,
            f"{pair.similarity:.4f}",
            pair.stream,
            "" if pair.bits is None else str(pair.bits),
            "yes" if pair.same else "no",
        )
        for pair in pairs
    )
    records = tuple(
        {
            "train": pair.train,
            "benchmark": pair.benchmark,
            "similarity": pair.similarity,
            "stream": pair.stream,
            "bits": pair.bits,
            "same": pair.same,
        }
        for pair in pairs
    )
    header = ("training clip", "benchmark clip", "cosine", "stream", "bits of 64", "copy")
    return Sheet("Training clips that are close to benchmark clips", header, rows, records)
