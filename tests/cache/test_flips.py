"""A store with any one bit flipped is read as it was written or refused in a sentence, and `verify` says so."""

from __future__ import annotations

import math
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avem.cache import FeatureStore, RowDetails, ScoreCache, StoreWriter, mine_negatives
from avem.errors import AvemError
from tests.cache.helpers import audio_spec, make_store, row_values

FLIPS = int(os.environ.get("AVEM_FLIPS", "3"))
"""Flips in each file; more of them, at random, by hand."""
SEED = os.environ.get("AVEM_FLIPS_SEED", "0")

SCORES = {"weights": "abc", "layer": 2}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A store of every kind of file: both streams, one in int8, negatives, scores, and a record not folded yet."""
    path = tmp_path_factory.mktemp("flips") / "cache"
    store = make_store(path, clips=8, dtype="int8")
    mine_negatives(store, k=2)
    ScoreCache(path, SCORES).put(["a", "b"], [-1.5, -2.25])
    writer = StoreWriter.open(path)
    writer.mark_pending("audio", [0, 1, 2, 3])
    stream = writer.stream(audio_spec("int8"))
    (shard,) = stream.pending()
    stream.write(shard, *row_values(stream.spec, shard.rows), [RowDetails(duration_s=1.5, has_audio=True)] * 4)
    stream.close()
    return path


def everything(path: Path) -> dict[str, Any]:
    """All that avem reads of a store."""
    store = FeatureStore.open(path)
    found: dict[str, Any] = {
        "clips": store.clips.to_pydict(),
        "ids": store.rows(["toy/003", "toy/000"]).tolist(),
        "kinds": store.kinds,
        "roots": store.roots,
        "length": len(store),
        "scores": dict(zip("ab", ScoreCache(path, SCORES).get(["a", "b"]).tolist(), strict=True)),
    }
    for kind in store.kinds:
        rows = np.flatnonzero(store.available(kind))
        found[f"{kind} rows"] = rows.tolist()
        found[kind] = store.features(kind, rows).numpy().tobytes()
        found[f"{kind} pooled"] = store.pooled(kind).tobytes()
        found[f"{kind} errors"] = store.int8_errors(kind).tobytes()
        found[f"{kind} spec"] = store.spec(kind)
    for modality in ("video", "audio", "audiovisual"):
        found[modality] = (found.get(modality), store.negatives("hard", modality).tobytes())
    return found


def is_other(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether anything is not as it was written; a damaged score counts as missing, and is computed again."""
    scores = found.pop("scores")
    return found | {"scores": None} != expected | {"scores": None} or any(
        value != expected["scores"][key] for key, value in scores.items() if not math.isnan(value)
    )


def is_reported(path: Path) -> bool:
    """Whether `avem cache verify` would end with status 2."""
    try:
        store = FeatureStore.open(path, check=False)
        return bool(store.damaged_files() or store.verify())
    except AvemError:
        return True


def files_of(path: Path) -> list[str]:
    return sorted(item.relative_to(path).as_posix() for item in path.rglob("*") if item.is_file())


def test_every_file_is_checked(sound, tmp_path):
    expected, chance = everything(sound), random.Random(SEED)
    path = tmp_path / "cache"
    shutil.copytree(sound, path)
    assert not is_reported(path)
    silent, served = [], []
    for name in files_of(sound):
        content = (sound / name).read_bytes()
        for _ in range(FLIPS if content else 0):
            position, bit = chance.randrange(len(content)), chance.randrange(8)
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            (path / name).write_bytes(damaged)
            if not is_reported(path):
                silent.append((name, position, bit))
            try:
                if is_other(everything(path), expected):
                    served.append((name, position, bit))
            except AvemError:
                pass
            (path / name).write_bytes(content)
            for extra in set(files_of(path)) - set(files_of(sound)):
                (path / extra).unlink()
    assert not served
    assert not silent
