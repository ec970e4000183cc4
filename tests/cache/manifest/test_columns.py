"""Manifests that were written before a column existed are read, and keep their checks."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avem.cache import FeatureStore
from avem.cache.manifest.columns import OPTIONAL_COLUMNS, SCHEMA, edited_rows
from avem.cache.manifest.parts import parse_part
from avem.errors import StoreError
from tests.cache.helpers import make_store


def older(path):
    """Take the columns out of a store's manifest that older ones do not have."""
    table = pq.read_table(path / "clips.parquet").drop_columns(list(OPTIONAL_COLUMNS))
    pq.write_table(table, path / "clips.parquet")


def test_an_older_manifest_is_read_and_stays_sound(tmp_path):
    make_store(tmp_path / "cache", clips=5)
    older(tmp_path / "cache")
    store = FeatureStore.open(tmp_path / "cache")
    assert all(store.clips[name].to_pylist() == [None] * 5 for name in OPTIONAL_COLUMNS)
    assert store.verify() == []


@pytest.mark.parametrize(
    ("name", "value"), [("audio_decoder", "pyav"), ("silent", True), ("start_s", 30.0), ("end_s", 60.0)]
)
def test_an_edited_optional_cell_is_noticed(tmp_path, name, value):
    make_store(tmp_path / "cache", clips=5)
    path = tmp_path / "cache" / "clips.parquet"
    table = parse_part(path.read_bytes(), "here").read(SCHEMA.names)
    position = table.column_names.index(name)
    edited = table.set_column(position, SCHEMA.field(name), pa.array([None, None, value, None, None], table[name].type))
    assert edited_rows(edited) == [2]


def test_only_the_columns_asked_for_are_decoded(tmp_path):
    make_store(tmp_path / "cache", clips=5)
    data = (tmp_path / "cache" / "clips.parquet").read_bytes()
    whole = parse_part(data, "here").read(SCHEMA.names)
    assert whole.schema == SCHEMA
    some = parse_part(data, "here").read(["video_status", "clip_id"])
    assert some.equals(whole.select(["video_status", "clip_id"]))
    older(tmp_path / "cache")
    data = (tmp_path / "cache" / "clips.parquet").read_bytes()
    assert parse_part(data, "here").read(["audio_decoder"])["audio_decoder"].to_pylist() == [None] * 5


def test_a_column_that_is_not_asked_for_is_missed_all_the_same(tmp_path):
    make_store(tmp_path / "cache", clips=5)
    path = tmp_path / "cache" / "clips.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["sha256"]), path)
    with pytest.raises(StoreError, match="no column sha256"):
        FeatureStore.open(tmp_path / "cache")
