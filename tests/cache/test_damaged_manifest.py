"""A manifest that can't be read is one sentence in every command, and is restored from its copy."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from avem.cache import FeatureStore, StoreWriter
from avem.cache.manifest.file import FileState, file_state
from avem.cache.restore import restore_files
from avem.cli import app
from avem.errors import AvemError, StoreError
from tests.cache.helpers import clip_records, make_store

SPOILED = {
    "empty": lambda data: b"",
    "random": lambda data: np.random.default_rng(0).bytes(len(data)),
    "truncated": lambda data: data[: len(data) // 2],
    "no footer": lambda data: data[:-8],
    "page flipped": lambda data: data[:200] + bytes([data[200] ^ 4]) + data[201:],
    "only its ends": lambda data: data[:4] + b"\0" * 40 + data[-8:],
    "an endless footer": lambda data: data[:-8] + b"\xff\xff\xff\x7fPAR1",
    "text": lambda data: b"clip_id,label\n",
}


@pytest.fixture
def path(tmp_path):
    make_store(tmp_path / "cache", clips=10)
    return tmp_path / "cache"


def spoil(path, kind):
    manifest = path / "clips.parquet"
    data = manifest.read_bytes()
    manifest.unlink()
    if kind == "a folder":
        manifest.mkdir()
    elif kind != "gone":
        manifest.write_bytes(SPOILED[kind](data))


def run(*arguments):
    """A command's exit and output; only errors that are one sentence are let through as such."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit | AvemError):
        raise done.exception
    return done.exception, done.output


@pytest.mark.parametrize("kind", [*SPOILED, "gone", "a folder"])
def test_every_command_says_so_and_repair_restores_it(path, tmp_path, kind):
    sound = FeatureStore.open(path)
    expected, video = sound.clips, sound.video(range(10))
    spoil(path, kind)
    for command in (["info"], ["negatives"], ["export", tmp_path / "out"]):
        error, _ = run("cache", *command, "--cache", path)
        assert isinstance(error, StoreError)
        assert "clips.parquet" in str(error)
        assert "\n" not in str(error)
    error, output = run("cache", "verify", "--cache", path)
    assert isinstance(error, StoreError)
    assert "clips.parquet" in output
    with pytest.raises(StoreError):
        StoreWriter.open(path).add_clips(clip_records(12), root=path.parent)  # would give rows to other clips
    error, output = run("cache", "repair", "--cache", path)
    if kind == "a folder":
        assert isinstance(error, StoreError)
        assert "move it away" in str(error)
        (path / "clips.parquet").rmdir()
        error, output = run("cache", "repair", "--cache", path)
    assert error is None
    assert "written again: clips.parquet" in output
    again = FeatureStore.open(path)
    assert again.clips.equals(expected)
    assert (again.video(range(10)) == video).all()
    assert run("cache", "verify", "--cache", path)[0] is None


def test_without_a_copy_repair_says_what_to_do(path):
    (path / "ledger/clips.parquet").unlink()
    spoil(path, "truncated")
    error, output = run("cache", "verify", "--cache", path)
    assert isinstance(error, StoreError)
    assert "extract into a new store" in output
    error, _ = run("cache", "repair", "--cache", path)
    assert isinstance(error, AvemError)
    assert "\n" not in str(error)


def test_an_edited_cell_is_refused_and_named(path):
    table = pq.read_table(path / "clips.parquet")
    values = table["emotion"].to_pylist()
    values[4] = "neutral"
    pq.write_table(
        table.set_column(table.schema.get_field_index("emotion"), "emotion", [values]), path / "clips.parquet"
    )
    store = FeatureStore.open(path)
    for read in (lambda: store.clips, lambda: len(store), lambda: store.rows(["toy/001"]), lambda: store.video([1])):
        with pytest.raises(StoreError, match=r"'toy/004'.*avem cache repair"):
            read()
    StoreWriter.open(path).finish()  # another run in between does not hide it
    assert file_state((path / "clips.parquet").read_bytes()) is FileState.SOUND
    with pytest.raises(StoreError, match="'toy/004'"):
        len(FeatureStore.open(path))


def test_a_manifest_written_by_another_tool_without_a_change_is_read(path):
    expected = FeatureStore.open(path).clips
    pq.write_table(pq.read_table(path / "clips.parquet"), path / "clips.parquet", compression="snappy")
    assert FeatureStore.open(path).clips.equals(expected)
    assert FeatureStore.open(path).damaged_files() == []
    assert restore_files(path) == []


def test_stores_from_before_checksums_are_read(path):
    """What an older avem wrote: no file checksum, no sealed records, no copies."""
    expected = FeatureStore.open(path).clips
    table = pq.read_table(path / "clips.parquet").replace_schema_metadata(None)
    pq.write_table(table, path / "clips.parquet", compression="zstd")
    shutil.rmtree(path / "ledger")
    for metadata in path.rglob("zarr.json"):
        text = metadata.read_text()
        start = text.index('"avem_check"')
        metadata.write_text(text[:start].rstrip().rstrip(",") + text[text.index("}", start) + 1 :])
    store = FeatureStore.open(path)
    assert store.clips.equals(expected)
    assert store.video(range(10)).shape == (10, 2, 3, 4)
    assert (store.verify(), store.damaged_files()) == ([], [])
    StoreWriter.open(path).add_clips(clip_records(11), root=path.parent)
    assert file_state((path / "clips.parquet").read_bytes()) is FileState.SOUND
    assert len(FeatureStore.open(path)) == 11


@pytest.mark.parametrize(
    "name",
    [
        "zarr.json",
        "video/zarr.json",
        "audio/tiny-audio/zarr.json",
        "video/tiny-video/features/zarr.json",
        "audio/tiny-audio/pooled/zarr.json",
        "ledger/clips.parquet",
        "ledger/root.json",
        "ledger/history.jsonl",
    ],
)
@pytest.mark.parametrize("damage", ["flipped", "empty"])
def test_other_files_are_restored(path, name, damage):
    content = (path / name).read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 8]) + content[middle + 1 :]
    (path / name).write_bytes(flipped if damage == "flipped" else b"")
    error, _ = run("cache", "verify", "--cache", path)
    if (name, damage) == ("ledger/history.jsonl", "empty"):
        return  # no line, no damage
    assert isinstance(error, StoreError)
    assert run("cache", "repair", "--cache", path)[0] is None
    if not name.endswith("history.jsonl"):
        assert (path / name).read_bytes() == content
    assert run("cache", "verify", "--cache", path)[0] is None


def test_the_copy_is_never_older(path):
    copy = path / "ledger/clips.parquet"
    assert copy.read_bytes() == (path / "clips.parquet").read_bytes()
    StoreWriter.open(path).add_clips(clip_records(12), root=path.parent)
    assert copy.read_bytes() == (path / "clips.parquet").read_bytes()
    assert not copy.samefile(path / "clips.parquet")
