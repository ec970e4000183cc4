"""Rows are found by clip id, whatever the ids hash to."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avem.cache import FeatureStore
from avem.cache.manifest import ids
from avem.cache.manifest.ids import IdIndex
from avem.errors import UnknownClipError
from tests.cache.helpers import make_store

IDS = st.lists(st.text(max_size=6), min_size=1, max_size=40, unique=True)


class RowsById:
    """Rows by clip id among ids in memory.

    Args:
        clip_ids: string [clips].
    """

    def __init__(self, clip_ids: pa.ChunkedArray) -> None:
        self._ids = clip_ids.combine_chunks()
        self._index = IdIndex.of(ids.hash_ids(pa.chunked_array([self._ids])))

    def rows(self, clip_ids: Sequence[str]) -> np.ndarray:
        """Row of each clip, int64 [n].

        Raises:
            KeyError: There is no such clip; its argument is the id.
        """
        wanted = pa.array(list(clip_ids), pa.string())
        found = self._index.find(wanted, ids.hash_ids(pa.chunked_array([wanted])), lambda rows: self._ids.take(rows))
        unknown = np.flatnonzero(found < 0)
        if len(unknown):
            raise KeyError(wanted[int(unknown[0])].as_py())
        return found


@settings(max_examples=60)
@given(IDS, st.data())
def test_each_id_has_the_row_it_stands_in(clip_ids, data):
    index = RowsById(pa.chunked_array([clip_ids[:3], clip_ids[3:]], pa.string()))
    wanted = data.draw(st.lists(st.sampled_from(clip_ids), max_size=20))
    assert index.rows(wanted).tolist() == [clip_ids.index(clip_id) for clip_id in wanted]
    with pytest.raises(KeyError, match="not there"):
        index.rows([*wanted, "not there"])


def test_ids_that_share_a_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(ids, "hash_ids", lambda found: np.array([len(name) for name in found.to_pylist()], "u8"))
    clip_ids = ["a", "bb", "b", "c", "aa"]
    index = RowsById(pa.chunked_array([clip_ids]))
    assert index.rows(["c", "aa", "a", "b", "bb"]).tolist() == [3, 4, 0, 2, 1]
    for unknown in ("d", "cc", "ccc", ""):
        with pytest.raises(KeyError, match=repr(unknown)):
            index.rows(["a", unknown])


def test_a_store_without_clips_knows_none():
    index = RowsById(pa.chunked_array([], pa.string()))
    assert index.rows([]).tolist() == []
    with pytest.raises(KeyError, match="'a'"):
        index.rows(["a"])


def test_the_message_names_the_unknown_clip(tmp_path):
    make_store(tmp_path / "cache", clips=5)
    store = FeatureStore.open(tmp_path / "cache")
    known = store.clips["clip_id"].to_pylist()
    assert store.rows(known[::-1]).tolist() == [4, 3, 2, 1, 0]
    with pytest.raises(UnknownClipError, match=r"'nobody'.*5 clips"):
        store.rows([known[0], "nobody"])
