"""Every kind of damage is found, and only there."""

import pyarrow.parquet as pq
import pytest

from avem.cache import FeatureStore, StoreWriter
from tests.cache.helpers import make_store, video_spec, write_pending


@pytest.fixture
def path(tmp_path):
    make_store(tmp_path / "cache", clips=10)
    return tmp_path / "cache"


@pytest.mark.parametrize(("array", "row_bytes"), [("features", 48), ("pooled", 20)])
@pytest.mark.parametrize("position", [0, 7, -1])
def test_a_flipped_byte(path, array, row_bytes, position):
    shard = path / f"video/tiny-video/{array}" / ("c.1.0.0.0" if array == "features" else "c.1.0")
    data = bytearray(shard.read_bytes())
    stride = row_bytes + 4
    data[2 * stride + position % stride] ^= 0x10
    shard.write_bytes(data)
    (damage,) = FeatureStore.open(path).verify()
    assert (damage, damage.row, damage.clip_id) == (6, 6, "toy/006")
    assert damage.problem == f"video/{array} does not match its checksum"


def test_a_truncated_and_a_missing_shard(path):
    shard = path / "video/tiny-video/features/c.0.0.0.0"
    shard.write_bytes(shard.read_bytes()[:-3])
    (path / "audio/tiny-audio/features/c.2.0.0").unlink()
    damaged = FeatureStore.open(path).verify()
    assert damaged == [0, 1, 2, 3, 8, 9]
    assert "truncated" in damaged[0].problem
    assert "lost its shard" in damaged[5].problem


@pytest.mark.parametrize("column", ["clip_id", "emotion", "sha256", "video_status"])
def test_an_edited_manifest(path, column):
    table = pq.read_table(path / "clips.parquet")
    values = table[column].to_pylist()
    values[4] = "failed: x" if column == "video_status" else "edited"
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, [values]), path / "clips.parquet")
    assert FeatureStore.open(path).verify() == [4]


def test_lost_and_swapped_manifest_rows(path):
    table = pq.read_table(path / "clips.parquet")
    pq.write_table(table.take([1, 0, *range(2, 8)]), path / "clips.parquet")
    assert FeatureStore.open(path).verify() == [0, 1, 8, 9]


def test_repair_by_writing_damaged_rows_again(path):
    shard = path / "video/tiny-video/features/c.0.0.0.0"
    data = bytearray(shard.read_bytes())
    data[60] ^= 1
    shard.write_bytes(data)
    damaged = FeatureStore.open(path).verify()
    assert damaged == [1]
    writer = StoreWriter.open(path)
    writer.mark_pending("video", damaged)
    write_pending(writer, video_spec())
    assert FeatureStore.open(path).verify() == []


def test_damage_in_a_kept_row_is_not_hidden_by_rewriting_its_shard(path):
    shard = path / "video/tiny-video/features/c.0.0.0.0"
    data = bytearray(shard.read_bytes())
    data[60] ^= 1
    shard.write_bytes(data)
    writer = StoreWriter.open(path)
    writer.mark_pending("video", [3])
    write_pending(writer, video_spec())
    assert FeatureStore.open(path).verify() == [1]
