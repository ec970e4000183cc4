"""Manifests that were written before a column existed are read, and keep their checks."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from avem.cache import FeatureStore
from avem.cache.manifest import DECODER_COLUMNS, edited_rows, parse_manifest
from tests.cache.helpers import make_store


def older(path):
    """Take the columns out of a store's manifest that older ones do not have."""
    table = pq.read_table(path / "clips.parquet").drop_columns(list(DECODER_COLUMNS))
    pq.write_table(table, path / "clips.parquet")


def test_an_older_manifest_is_read_and_stays_sound(tmp_path):
    make_store(tmp_path / "cache", clips=5)
    older(tmp_path / "cache")
    store = FeatureStore.open(tmp_path / "cache")
    assert store.clips["video_decoder"].to_pylist() == [None] * 5
    assert store.verify() == []


def test_an_edited_decoder_is_noticed(tmp_path):
    make_store(tmp_path / "cache", clips=5)
    path = tmp_path / "cache" / "clips.parquet"
    table = parse_manifest(path.read_bytes(), "here")
    place = table.column_names.index("audio_decoder")
    edited = table.set_column(place, "audio_decoder", pa.array([None, None, "pyav", None, None], pa.string()))
    assert edited_rows(edited) == [2]
