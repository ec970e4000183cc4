"""Damaged rows are extracted again from their source, these alone, and a repair that was killed is finished."""

from __future__ import annotations

import shutil

import pyarrow.parquet as pq
import pytest

from avem.cache import FeatureStore, StoreWriter
from avem.cli import main
from avem.extract import ExtractOptions, extract
from avem.extract.encoders.random_weights import make_random_languagebind, make_random_whisper
from avem.extract.repair import repair
from tests.extract.conftest import write_clip

SIZES = {"image_size": 32, "patch_size": 16, "hidden": 32, "layers": 1, "heads": 2, "frames": 2, "projection_dim": 8}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A corpus, its encoders and a sound store."""
    root = tmp_path_factory.mktemp("repair")
    for index in range(6):
        write_clip(root / "corpus" / ("anger", "fear")[index % 2] / f"{index}.mp4", frames=4, sound_s=1.0, seed=index)
    options = ExtractOptions(
        make_random_languagebind(root / "video", **SIZES),
        make_random_whisper(root / "audio", width=16, layers=1, heads=2, positions=50),
        workers=1,
        batch_size=1,
        rows_per_shard=4,  # a batch of one: sums do not depend on the neighbours
    )
    extract(root / "corpus", root / "cache", options)
    return root, options


@pytest.fixture
def store(whole, tmp_path):
    """A copy of the store that may be damaged."""
    shutil.copytree(whole[0] / "cache", tmp_path / "cache")
    return tmp_path / "cache"


def contents(path):
    files = sorted(item for item in path.rglob("*") if item.is_file() and "ledger" not in item.parts)
    return {str(item.relative_to(path)): item.read_bytes() for item in files if item.name != "clips.parquet"}


def flip(path, position=5):
    data = bytearray(path.read_bytes())
    data[position] ^= 0x20
    path.write_bytes(data)


def shard(store, kind, array, index):
    folder = store / kind / FeatureStore.open(store).spec(kind).encoder / array
    return next(folder.glob(f"c.{index}.*"))


def test_every_kind_of_damage_is_mended_bit_for_bit(whole, store):
    sound = contents(store)
    entries = FeatureStore.open(store).clips
    flip(shard(store, "video", "features", 0))
    flip(shard(store, "audio", "pooled", 1))
    shard(store, "audio", "features", 0).unlink()
    report = repair(store, whole[1])
    assert [int(row) for row in report.damaged] == [0, 1, 2, 3, 4]
    assert report.damaged[4].kinds == ("audio",)
    assert len(report.repaired) == 5
    assert not report.left
    assert contents(store) == sound
    assert FeatureStore.open(store).clips.equals(entries)
    assert FeatureStore.open(store).verify() == []
    assert repair(store, whole[1]).damaged == []


def test_only_damaged_rows_are_read_from_source(whole, store, tmp_path):
    shutil.copytree(whole[0] / "corpus", tmp_path / "moved")
    damaged = FeatureStore.open(store).clips["path"][1].as_py()
    for path in (tmp_path / "moved").rglob("*.mp4"):
        if path.relative_to(tmp_path / "moved").as_posix() != damaged:
            path.write_bytes(b"no clip any more")
    stride = FeatureStore.open(store).spec("video").row_bytes + 4
    flip(shard(store, "video", "features", 0), stride + 5)
    sound = shard(store, "audio", "features", 0).read_bytes()
    report = repair(store, whole[1], tmp_path / "moved")
    assert len(report.repaired) == 1
    assert not report.left
    assert shard(store, "audio", "features", 0).read_bytes() == sound
    assert FeatureStore.open(store).verify() == []


def test_sources_that_are_gone_or_changed_are_left_and_said(whole, store, tmp_path, capsys, monkeypatch):
    shutil.copytree(whole[0] / "corpus", tmp_path / "moved")
    paths = FeatureStore.open(store).clips["path"].to_pylist()
    (tmp_path / "moved" / paths[0]).unlink()
    write_clip(tmp_path / "moved" / paths[1], frames=5, seed=9)
    shard(store, "video", "features", 0).unlink()
    report = repair(store, whole[1], tmp_path / "moved")
    assert len(report.repaired) == 2
    assert ["not there" in reason for reason in report.left.values()] == [True, False]
    assert "another content" in list(report.left.values())[1]
    monkeypatch.setattr(
        "sys.argv",
        [
            "avem",
            "cache",
            "repair",
            "--cache",
            str(store),
            "--root",
            str(tmp_path / "moved"),
            "--video-encoder",
            str(whole[1].video_encoder),
            "--audio-encoder",
            str(whole[1].audio_encoder),
        ],
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    assert "2 rows" in capsys.readouterr().err
    assert FeatureStore.open(store).verify() == [0, 1]


@pytest.mark.parametrize(("column", "value"), [("emotion", "sadness"), ("clip_id", "x"), ("video_status", "pending")])
def test_an_edited_entry_is_entered_again(whole, store, column, value):
    sound, entries = contents(store), FeatureStore.open(store).clips
    cells = entries[column].to_pylist()
    cells[2] = value
    edited = entries.set_column(entries.schema.get_field_index(column), column, [cells])
    pq.write_table(edited.cast(entries.schema), store / "clips.parquet")
    StoreWriter.open(store).finish()  # another run in between does not hide the edit
    assert FeatureStore.open(store).verify() == [2]
    report = repair(store, whole[1])
    assert report.repaired == [entries["clip_id"][2].as_py()]
    assert FeatureStore.open(store).clips.equals(entries)
    assert contents(store) == sound


def test_swapped_entries_are_extracted_where_they_stand_now(whole, store):
    entries = FeatureStore.open(store).clips
    pq.write_table(entries.take([1, 0, 2, 3, 4, 5]), store / "clips.parquet")
    assert len(repair(store, whole[1]).repaired) == 2
    repaired, sound = FeatureStore.open(store), FeatureStore.open(whole[0] / "cache")
    assert repaired.verify() == []
    assert repaired.clips["clip_id"].to_pylist()[:2] == entries["clip_id"].to_pylist()[1::-1]
    assert (repaired.pooled("video")[[1, 0]] == sound.pooled("video")[[0, 1]]).all()


def test_a_killed_repair_is_finished_by_the_next(whole, store, monkeypatch):
    sound = contents(store)
    flip(shard(store, "video", "features", 0))

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("avem.extract.repair.extract", die)
        with pytest.raises(KeyboardInterrupt):
            repair(store, whole[1])
    assert not FeatureStore.open(store).available("video")[0]
    assert len(repair(store, whole[1]).repaired) == 1
    assert contents(store) == sound
