"""Names that are not UTF-8 or steer a terminal, and what is no file: one clip, or one failure, and never a hang."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from avem.cache import FeatureStore, StoreWriter
from avem.errors import AvemError, DataError
from avem.extract import ExtractOptions, extract
from avem.extract.datasets import read_dataset
from avem.extract.datasets.tables import read_csv, read_grid
from avem.text.escaping import terminal_text
from avem.text.names import named_path, storable

LATIN = os.fsdecode(b"caf\xe9")
NAMES = {
    "not UTF-8": (LATIN, r"caf\xe9"),
    "a surrogate's bytes": (os.fsdecode(b"x\xed\xa0\x80y"), r"x\xed\xa0\x80y"),
    "a line end": ("two\nlines", "two\nlines"),
    "a terminal's escape": ("red\x1b[31m", "red\x1b[31m"),
    "an escape that is spelled out": ("caf\\xe9", "caf\\xe9"),
    "a direction mark": ("abc\u202etxt", "abc\u202etxt"),
    "no ASCII": ("été 夏", "été 夏"),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory, make_clip):
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=4, sound_s=0.5)


def command(*arguments, cwd=None):
    """Run `avem` in a process of its own, as a user does; it must end in time."""
    return subprocess.run(
        [sys.executable, "-m", "avem", *map(os.fspath, arguments)], cwd=cwd, capture_output=True, timeout=240
    )


def encoder_options(encoders):
    return [part for kind in ("video", "audio") for part in (f"--{kind}-encoder", str(encoders[f"{kind}_encoder"]))]


@pytest.mark.parametrize("kind", NAMES)
def test_a_strange_name_is_one_clip_with_an_escaped_id(tmp_path, encoders, clip, kind):
    name, expected = NAMES[kind]
    folder = tmp_path / "data" / "happiness"
    folder.mkdir(parents=True)
    shutil.copy(clip, folder / f"{name}.mp4")
    shutil.copy(clip, folder / "plain.mp4")
    options = ExtractOptions(**encoders, workers=1)
    report = extract(tmp_path / "data", tmp_path / "store", options)
    store = FeatureStore.open(tmp_path / "store")
    assert sorted(store.clips["clip_id"].to_pylist()) == sorted([f"data/happiness/{expected}", "data/happiness/plain"])
    assert report.summary.encode() is not None  # any terminal can show it
    row = store.clips["clip_id"].to_pylist().index(f"data/happiness/{expected}")
    assert store.media_path(row) == folder / f"{name}.mp4"
    failed = [failure.clip_id for failure in report.failures]
    assert failed == [] or set(failed) == {f"data/happiness/{expected}"}
    again = extract(tmp_path / "data", tmp_path / "store", options)
    assert again.encoded == {}
    assert store.verify() == []


def test_every_command_shows_a_store_with_strange_names(tmp_path, encoders, clip):
    folder = tmp_path / "data" / "happiness"
    folder.mkdir(parents=True)
    for kind, (name, _) in NAMES.items():
        if kind == "an escape that is spelled out":  # its id would be that of the name that is not UTF-8
            continue
        shutil.copy(clip, folder / f"{name}.mp4")
        (folder / f"broken {name}.mp4").write_bytes(b"no video")
    done = command(
        "extract", tmp_path / "data", "--cache", tmp_path / "store", "--workers", "1", *encoder_options(encoders)
    )
    assert done.returncode == 3, done.stderr
    assert b"Traceback" not in done.stderr
    for arguments in (["info"], ["list"], ["list", "--format", "csv"], ["list", "--format", "json"], ["verify"]):
        done = command("cache", *arguments, "--cache", tmp_path / "store")
        assert done.returncode == 0, done.stderr
        if "csv" not in arguments:
            assert b"\x1b" not in done.stdout
        done.stdout.decode()
    for line in (tmp_path / "store" / "ledger" / "extract-runs.jsonl").read_text().splitlines():
        json.loads(line)


def test_a_dataset_and_a_store_in_folders_that_are_not_utf_8(tmp_path, encoders, clip):
    root, store = tmp_path / LATIN / "data", tmp_path / LATIN / "store"
    (root / "sad").mkdir(parents=True)
    shutil.copy(clip, root / "sad" / "1.mp4")
    done = command("extract", root, "--cache", store, "--workers", "1", *encoder_options(encoders))
    assert b"Traceback" not in done.stderr, done.stderr
    assert done.returncode in (0, 3), done.stderr
    opened = FeatureStore.open(store)
    assert opened.media_path(0) == root.resolve() / "sad" / "1.mp4"
    done = command("cache", "info", "--cache", store)
    assert done.returncode == 0, done.stderr
    for missing in (["cache", "info", "--cache", tmp_path / f"{LATIN}-no"], ["extract", tmp_path / f"{LATIN}-no"]):
        done = command(*missing)
        assert done.returncode == 2
        assert b"Traceback" not in done.stderr
        assert rb"caf\xe9-no" in done.stderr or rb"caf\udce9-no" in done.stderr


@pytest.fixture
def strange_tree(tmp_path, clip):
    """A good clip among a FIFO, a socket, a device, links in circles, a folder and a link to nothing."""
    folder = tmp_path / "data" / "happiness"
    folder.mkdir(parents=True)
    shutil.copy(clip, folder / "good.mp4")
    os.mkfifo(folder / "fifo.mp4")
    here = Path.cwd()
    os.chdir(folder)  # a socket's path has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.mp4")
    finally:
        os.chdir(here)
    (folder / "device.mp4").symlink_to("/dev/zero")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "nothing.mp4").symlink_to("missing.mp4")
    (folder / "folder.mp4").mkdir()
    (folder / "circle").symlink_to("..")
    os.mkfifo(tmp_path / "data" / "elsewhere.mp4")
    return tmp_path / "data"


def test_what_is_no_file_is_named_and_passed_over(tmp_path, encoders, strange_tree):
    store = tmp_path / "store"
    done = command("extract", strange_tree, "--cache", store, "--workers", "1", *encoder_options(encoders))
    assert done.returncode == 3, done.stderr
    said = done.stdout.decode()
    for name, reason in {
        "fifo": "is a FIFO, not a file",
        "socket": "is a socket, not a file",
        "device": "is a device, not a file",
        "folder": "is a folder, not a file",
        "loop": "can't be read (Too many levels of symbolic links)",
        "nothing": "can't be read (No such file or directory)",
    }.items():
        assert f"data/happiness/{name} (file): happiness/{name}.mp4 {reason}" in said
    assert "happiness/circle is a link back to a folder that it is in" in said
    assert "elsewhere.mp4 is a FIFO, not a file" in said
    assert FeatureStore.open(store).clips["clip_id"].to_pylist() == ["data/happiness/good"]


@pytest.mark.parametrize("what", ["fifo", "device", "folder"])
def test_a_sound_file_that_is_no_file_is_named(tmp_path, encoders, clip, what):
    root = tmp_path / "data"
    root.mkdir()
    shutil.copy(clip, root / "a.mp4")
    shutil.copy(clip, root / "b.mp4")
    {"fifo": os.mkfifo, "folder": Path.mkdir, "device": lambda path: path.symlink_to("/dev/zero")}[what](root / "a.wav")
    (root / "clips.csv").write_text("path,emotion,audio_path\na.mp4,sad,a.wav\nb.mp4,sad,\n")
    report = extract(root, tmp_path / "store", ExtractOptions(**encoders, workers=1))
    kind = {"fifo": "a FIFO", "folder": "a folder", "device": "a device"}[what]
    assert [(failure.clip_id, failure.reason) for failure in report.failures] == [
        ("data/a", f"a.wav is {kind}, not a file")
    ]


def test_names_that_no_file_can_have(tmp_path, encoders, clip):
    root = tmp_path / "data"
    root.mkdir()
    shutil.copy(clip, root / "b.mp4")
    (root / "clips.csv").write_text(f"path,emotion\na\0b.mp4,sad\nb.mp4,sad\n{'long' * 100}.mp4,sad\n")
    report = extract(root, tmp_path / "store", ExtractOptions(**encoders, workers=1))
    assert [failure.reason.partition("(")[2] for failure in report.failures] == [
        "embedded null byte)",
        "File name too long)",
    ]


def test_two_names_with_one_escaped_id_are_a_sentence(tmp_path):
    folder = tmp_path / "data" / "sad"
    folder.mkdir(parents=True)
    for name in (LATIN, r"caf\xe9"):
        (folder / f"{name}.mp4").touch()
    with pytest.raises(DataError, match="have the same clip id"):
        read_dataset(tmp_path / "data")


def tables(root, make):
    """The tables of each layout, made by `make`, with a video that makes the layout known."""
    layouts = {
        "dfew": (["Annotation/annotation.xlsx"], "Clip/original/1.mp4"),
        "mafw": (["single-set.xlsx"], "clips/1.mp4"),
        "mer2023": (["train-label.csv"], "train/sample1.mp4"),
    }
    for name, (files, video) in layouts.items():
        for file in [*files, video]:
            (root / name / file).parent.mkdir(parents=True, exist_ok=True)
        (root / name / video).write_bytes(b"")
        for file in files:
            make(root / name / file)
        yield name, root / name


def test_a_table_that_is_a_fifo_is_a_sentence(tmp_path):
    for name, root in tables(tmp_path, os.mkfifo):
        with pytest.raises(DataError, match="is a FIFO, not a file"):
            read_dataset(root, name)
    os.mkfifo(tmp_path / "table")
    for reader in (lambda path: read_csv(path, ("a",)), read_grid):
        with pytest.raises(DataError, match="is a FIFO"):
            reader(tmp_path / "table")


def test_a_clips_csv_that_is_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "clips.csv")
    for dataset in (None, "clips-csv"):
        with pytest.raises(DataError):
            read_dataset(tmp_path, dataset)


def test_a_link_to_itself_as_a_dataset(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(AvemError):
        read_dataset(tmp_path / "loop")


def test_an_unreadable_file_is_one_failure(tmp_path, encoders, clip, monkeypatch):
    folder = tmp_path / "data" / "sad"
    folder.mkdir(parents=True)
    for name in "ab":
        shutil.copy(clip, folder / f"{name}.mp4")
    real = Path.open

    def refuse(path, *arguments, **named):
        if path.name == "a.mp4":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so permissions can't be taken away here
    report = extract(tmp_path / "data", tmp_path / "store", ExtractOptions(**encoders, workers=1))
    assert [(failure.clip_id, failure.reason) for failure in report.failures] == [
        ("data/sad/a", "sad/a.mp4 can't be read (Permission denied)")
    ]


def test_reasons_and_labels_that_utf_8_can_not_hold_reach_the_manifest(tmp_path):
    import numpy as np

    from avem.cache import ClipRecord, RowDetails
    from tests.cache.helpers import video_spec

    writer = StoreWriter.open(tmp_path / "store")
    record = ClipRecord(
        f"d/{LATIN}", f"d{LATIN}", f"{LATIN}.mp4", "0" * 64, emotions_raw=LATIN, source=LATIN, split=LATIN
    )
    writer.add_clips([record], tmp_path / LATIN)
    stream = writer.stream(video_spec())
    for shard in stream.pending():
        stream.write(shard, np.zeros((1, 2, 3, 4)), np.ones((1, 5)), [RowDetails("failed", f"no {LATIN}")])
    assert FeatureStore.open(tmp_path / "store").clips["video_status"].to_pylist() == [r"failed: no caf\xe9"]
    writer.finish()
    store = FeatureStore.open(tmp_path / "store")
    assert store.clips["clip_id"].to_pylist() == [r"d/caf\xe9"]
    assert store.rows([r"d/caf\xe9"]).tolist() == [0]
    assert store.verify() == []


def test_escapes(tmp_path):
    assert storable(LATIN) == r"caf\xe9"
    assert storable("été\x1b") == "été\x1b"
    assert terminal_text("a\x1b[31m\n\u202eb\udce9") == r"a\x1b[31m\n\u202eb\xe9"
    (tmp_path / f"{LATIN}.mp4").touch()
    assert named_path(tmp_path, r"caf\xe9.mp4") == tmp_path / f"{LATIN}.mp4"
    (tmp_path / r"caf\xe9.mp4").touch()  # a file of that very name goes first
    assert named_path(tmp_path, r"caf\xe9.mp4") == tmp_path / r"caf\xe9.mp4"
    assert named_path(tmp_path, r"no\xe9.mp4") == tmp_path / r"no\xe9.mp4"
