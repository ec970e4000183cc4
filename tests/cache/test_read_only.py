"""On a disk that can't be written, a store is read and every attempt to change it ends in one sentence."""

import errno
import io
import os

import pytest
import torch

from avem.cache import FeatureStore, ScoreCache, StoreWriter, match_mutual, mine_negatives
from avem.cache.exchange.hdf5 import export_hdf5
from avem.errors import StoreError, WriteError
from tests.cache.helpers import clip_records, make_store, video_spec


@pytest.fixture
def read_only(tmp_path, monkeypatch):
    """A store, mined, on a disk that the system has since made read-only."""
    store = make_store(tmp_path / "cache")
    mine_negatives(store, k=1)
    real_open, real_io_open, refusal = os.open, io.open, OSError(errno.EROFS, "Read-only file system")

    def system_open(path, flags, *rest, **named):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise refusal
        return real_open(path, flags, *rest, **named)

    def file_open(path, mode="r", *rest, **named):
        if set(mode) & set("wax+"):
            raise refusal
        return real_io_open(path, mode, *rest, **named)

    def refuse(*_, **__):
        raise refusal

    monkeypatch.setattr(os, "open", system_open)
    monkeypatch.setattr(io, "open", file_open)
    for name in ("mkdir", "rename", "replace"):
        monkeypatch.setattr(os, name, refuse)
    return store


def test_everything_is_read(read_only):
    store = FeatureStore.open(read_only.location.local)
    assert torch.equal(store.video([3]), read_only.video([3]))
    assert store.verify() == []
    assert store.negatives("hard", "video").shape == (10, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda store, path: StoreWriter.open(path).add_clips(clip_records(12), root=path),
        lambda store, path: StoreWriter.open(path).stream(video_spec()),
        lambda store, path: StoreWriter.open(path).mark_pending("video", [1]),
        lambda store, path: StoreWriter.open(path).finish(),
        lambda store, path: StoreWriter.open(path.parent / "new"),
        lambda store, path: mine_negatives(store),
        lambda store, path: match_mutual(store, modality="video"),
        lambda store, path: ScoreCache(path, {"weights": 1}),
        lambda store, path: export_hdf5(store, path.parent / "out"),
    ],
)
def test_every_change_is_refused_in_one_sentence(read_only, change):
    with pytest.raises((StoreError, WriteError), match=r"(?i)read-only"):
        change(read_only, read_only.location.local)
