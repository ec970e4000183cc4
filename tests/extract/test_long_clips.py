"""Clips longer than 30 s: cut and said so, or windows with the picture and the sound of the same span."""

from __future__ import annotations

import os
import shutil
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from avem.cache import FeatureStore, store_info
from avem.cache.exchange.hdf5 import export_hdf5, import_hdf5
from avem.cache.windows import window_id, window_spans, windows_of
from avem.commands.cache.app import cache_app
from avem.errors import DataError, SettingError, StoreError, UnknownClipError
from avem.extract import ExtractOptions, extract, load_audio_encoder, load_video_encoder, plan, probe
from avem.extract.decode.lengths import clip_length
from avem.extract.decode.task import DecodeTask
from avem.extract.decode.worker import decode_clip
from avem.extract.repair import repair
from tests.extract.long_kit import FPS, RATE_HZ, all_frames, level, read_number, write_long

SPANS = ((0.0, 30.0), (30.0, 60.0), (60.0, 70.5))
NAMES = ["talks/anger/long@0-30", "talks/anger/long@30-60", "talks/anger/long@60-70"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A clip of 70.5 s, one of 2 s, and a silent one of 2 s."""
    root = tmp_path_factory.mktemp("long") / "talks"
    write_long(root / "anger" / "long.mov", 70.5)
    write_long(root / "fear" / "short.mov", 2)
    write_long(root / "fear" / "still.mov", 2, silent=True)
    return root


@pytest.fixture
def options(encoders):
    def make(**changes):
        return ExtractOptions(**{**encoders, "workers": 1, "batch_size": 1, "rows_per_shard": 2, **changes})

    return make


@pytest.fixture(scope="module")
def divided(corpus, encoders, tmp_path_factory):
    """A store of the corpus with windows."""
    store = tmp_path_factory.mktemp("divided") / "store"
    extract(corpus, store, ExtractOptions(**encoders, workers=1, batch_size=1, rows_per_shard=2, long="windows"))
    return store


def names_of(store: Path) -> list[str]:
    return FeatureStore.open(store).clips["clip_id"].to_pylist()


def files_of(store: Path) -> dict[str, bytes]:
    paths = sorted(path for path in store.rglob("*") if path.is_file() and "ledger" not in path.parts)
    return {str(path.relative_to(store)): path.read_bytes() for path in paths}


@given(st.floats(0, 4000, allow_nan=False))
def test_windows_follow_each_other_and_leave_out_less_than_a_second(seconds):
    spans = window_spans(seconds)
    if seconds < 31:
        assert spans == []
        return
    assert [start for start, _ in spans] == [30.0 * number for number in range(len(spans))]
    assert all(end == following for (_, end), (following, _) in pairwise(spans))
    assert all(1 <= end - start <= 30 for start, end in spans)
    assert 0 <= seconds - spans[-1][1] < 1
    assert windows_of("a@1", [window_id("a@1", span) for span in reversed(spans)]) == [
        window_id("a@1", span) for span in spans
    ]


def test_each_window_has_the_frames_and_the_sound_of_its_span(corpus, divided, encoders):
    path = corpus / "anger" / "long.mov"
    frames = all_frames(path)
    assert [read_number(frame) for frame in frames] == list(range(282))
    store = FeatureStore.open(divided)
    rows = store.rows(NAMES)
    video, audio = load_video_encoder(encoders["video_encoder"]), load_audio_encoder(encoders["audio_encoder"])
    for row, (start, end) in zip(rows.tolist(), SPANS, strict=True):
        first, last = int(start * FPS), int(end * FPS)
        numbers = np.linspace(first, last - 1, 4, dtype=int)
        features, _ = video.encode(video.preprocess(frames[numbers])[None])
        torch.testing.assert_close(store.video([row])[0].float(), features[0], atol=5e-3, rtol=1e-3)
        sound = np.concatenate([np.full(RATE_HZ, level(second), np.float32) for second in range(int(start), int(end))])
        expected, _ = audio.encode(audio.preprocess(sound)[None])
        torch.testing.assert_close(store.audio([row])[0].float(), expected[0], atol=5e-3, rtol=1e-2)
        clip = store.clips.slice(row, 1).to_pylist()[0]
        assert (clip["start_s"], clip["end_s"], clip["frames"], clip["silent"]) == (start, end, last - first, False)
        assert clip["duration_s"] == pytest.approx(end - start, abs=0.01)
        assert (clip["source"], clip["path"], clip["emotion"]) == ("talks/anger/long", "anger/long.mov", "anger")
        assert store.media_path(row) == path
    others = store.clips.slice(int(rows.max()) + 1).to_pylist()
    assert [(clip["clip_id"], clip["start_s"], clip["silent"]) for clip in others] == [
        ("talks/fear/short", None, False),
        ("talks/fear/still", None, True),
    ]
    assert store.verify() == []


@pytest.mark.parametrize("span", SPANS)
def test_a_worker_sends_every_sample_of_a_window(corpus, span):
    path = str(corpus / "anger" / "long.mov")
    sound = decode_clip(DecodeTask(0, path, path, ("audio",), span=span)).sound
    seconds = np.arange(len(sound)) // RATE_HZ + int(span[0])
    assert len(sound) == (span[1] - span[0]) * RATE_HZ
    assert np.abs(sound - (seconds + 1) / 200).max() < 1e-3


def test_cut_is_the_default_and_says_what_it_cuts(corpus, tmp_path, options):
    store = tmp_path / "store"
    planned = extract(corpus, store, options(dry_run=True))
    report = extract(corpus, store, options())
    assert names_of(store) == ["talks/anger/long", "talks/fear/short", "talks/fear/still"]
    for said in (planned.summary, report.summary):
        assert "1 clip is longer than 30 s (talks/anger/long)" in said
        assert "sound from its first 30 s; `--long windows` adds" in said
    assert "1 clip is silent, every sample is zero (talks/fear/still)" in report.summary
    info = store_info(FeatureStore.open(store))
    assert (info.long, info.silent, info.windows) == (("talks/anger/long",), ("talks/fear/still",), 0)
    clip = FeatureStore.open(store).clips.slice(0, 1).to_pylist()[0]
    assert (clip["frames"], clip["start_s"], clip["duration_s"]) == (282, None, pytest.approx(70.5))


def test_what_a_store_of_windows_says(divided, corpus, options):
    info = store_info(FeatureStore.open(divided))
    assert (info.windows, info.divided, info.long, info.silent) == (3, 1, (), ("talks/fear/still",))
    shown = CliRunner().invoke(cache_app, ["info", "--cache", str(divided)]).output
    assert "windows: 3 clips are windows of 1 longer ones" in shown
    assert "silent, every sample is zero: 1 clips (talks/fear/still)" in shown
    summary = extract(corpus, divided, options()).summary
    assert "3 clips are windows of a longer clip." in summary
    assert "longer than 30 s" not in summary


def test_a_rerun_needs_no_option_measures_nothing_and_changes_nothing(corpus, divided, options, monkeypatch):
    before = files_of(divided)
    monkeypatch.setattr("avem.extract.pipeline.open_engine", lambda *_: pytest.fail("the encoders were loaded"))
    monkeypatch.setattr("avem.extract.long_clips.DecodePool", lambda *_: pytest.fail("a file was measured"))
    for long in (None, "windows"):
        report = extract(corpus, divided, options(long=long))
        assert (report.clips, report.encoded, report.failures) == (5, {}, [])
    assert files_of(divided) == before


def test_later_clips_become_windows_too(corpus, tmp_path, options):
    root, store = tmp_path / "talks", tmp_path / "store"
    (root / "fear").mkdir(parents=True)
    shutil.copy(corpus / "fear" / "short.mov", root / "fear" / "short.mov")
    extract(root, store, options(long="windows"))
    (root / "anger").mkdir()
    shutil.copy(corpus / "anger" / "long.mov", root / "anger" / "long.mov")
    extract(root, store, options())
    assert names_of(store) == ["talks/fear/short", *NAMES]


def test_cut_and_windows_stand_side_by_side(corpus, tmp_path, options):
    store = tmp_path / "store"
    extract(corpus, store, options())
    report = extract(corpus, store, options(long="windows"))
    assert report.encoded == {"video": 3, "audio": 3}
    assert names_of(store) == ["talks/anger/long", "talks/fear/short", "talks/fear/still", *NAMES]
    again = extract(corpus, store, options())
    assert (again.clips, again.encoded, again.failures) == (6, {}, [])
    assert "longer than 30 s" not in again.summary
    assert FeatureStore.open(store).verify() == []


def test_limit_counts_files_and_only_takes_windows_or_their_clip(corpus, tmp_path, options):
    store = tmp_path / "store"
    extract(corpus, store, options(long="windows", limit=1, only=frozenset({NAMES[1]})))
    assert names_of(store) == [NAMES[1]]
    report = extract(corpus, store, options(limit=1, long="windows", only=frozenset({"talks/anger/long"})))
    assert report.clips == 1  # the store knows one window of the clip, and a clip in the store keeps its form
    extract(corpus, tmp_path / "other", options(long="windows", only=frozenset({"talks/anger/long"})))
    assert names_of(tmp_path / "other") == NAMES


def test_a_file_is_hashed_once_for_all_its_windows(corpus, tmp_path, options, monkeypatch):
    hashed = []
    real = plan.file_sha256
    monkeypatch.setattr(plan, "file_sha256", lambda path: hashed.append(path.name) or real(path))
    extract(corpus, tmp_path / "store", options(long="windows", streams=("audio",)))
    assert sorted(hashed) == ["long.mov", "short.mov", "still.mov"]


def test_a_window_without_a_picture_is_a_failed_clip_with_its_reason(tmp_path, options):
    write_long(tmp_path / "talks" / "fear" / "a.mov", 20, sound_s=70)
    report = extract(tmp_path / "talks", tmp_path / "store", options(long="windows"))
    assert report.encoded == {"video": 1, "audio": 3}
    reasons = {failure.clip_id: (failure.kind, failure.reason) for failure in report.failures}
    assert reasons.keys() == {"talks/fear/a@30-60", "talks/fear/a@60-70"}
    assert reasons["talks/fear/a@30-60"] == ("video", "a.mov has no frame that can be decoded between 30 and 60 s.")
    again = extract(tmp_path / "talks", tmp_path / "store", options(retry_failed=True))
    assert (again.clips, len(again.failures)) == (3, 2)


@pytest.mark.parametrize("lie_s", [5.0, 20_000.0])
def test_a_header_that_lies_changes_no_window(tmp_path, options, lie_s):
    path = write_long(tmp_path / "talks" / "anger" / "long.mkv", 70.5)
    data = bytearray(path.read_bytes())
    struct.pack_into(">d", data, data.index(b"\x44\x89\x88") + 3, lie_s * 1000)  # Matroska's Duration, in ms
    path.write_bytes(data)
    assert probe(path).duration_s == pytest.approx(lie_s)
    assert clip_length(path, path) == pytest.approx(70.5)
    report = extract(tmp_path / "talks", tmp_path / "store", options(long="windows"))
    assert names_of(tmp_path / "store") == NAMES
    assert report.failures == []
    assert FeatureStore.open(tmp_path / "store").clips["frames"].to_pylist() == [120, 120, 42]


def test_a_file_that_changed_is_named(corpus, tmp_path, options):
    root = shutil.copytree(corpus, tmp_path / "talks")
    extract(root, tmp_path / "store", options(long="windows", streams=("audio",)))
    write_long(root / "anger" / "long.mov", 3)
    for long in (None, "windows"):
        with pytest.raises(StoreError, match=r"talks/anger/long@0-30 .* another content"):
            extract(root, tmp_path / "store", options(long=long, streams=("audio",)))
    extract(root, tmp_path / "cut", options(streams=("audio",)))
    write_long(root / "anger" / "long.mov", 70)
    with pytest.raises(StoreError, match=r"talks/anger/long .* another content"):
        extract(root, tmp_path / "cut", options(long="windows", streams=("audio",)))


def test_a_failed_file_that_is_fetched_again_gets_its_windows(corpus, tmp_path, options):
    path = tmp_path / "talks" / "anger" / "long.mov"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no film")
    report = extract(tmp_path / "talks", tmp_path / "store", options(long="windows"))
    assert [failure.clip_id for failure in report.failures] == ["talks/anger/long"] * 2
    shutil.copy(corpus / "anger" / "long.mov", path)
    report = extract(tmp_path / "talks", tmp_path / "store", options(long="windows"))
    assert report.encoded == {"video": 3, "audio": 3}
    assert report.failures == []


def test_a_window_never_takes_another_clips_name(corpus, tmp_path, options):
    root = shutil.copytree(corpus, tmp_path / "talks")
    shutil.copy(root / "fear" / "short.mov", root / "anger" / "long@30-60.mov")
    with pytest.raises(DataError, match=r"window talks/anger/long@30-60 of anger/long.mov has the name"):
        extract(root, tmp_path / "store", options(long="windows"))
    extract(root, tmp_path / "store", options())
    assert FeatureStore.open(tmp_path / "store").rows(["talks/anger/long@30-60"]) == 1


def test_wrong_options_are_one_sentence(corpus, tmp_path, options):
    with pytest.raises(SettingError, match="--long must be one of cut, windows, not half"):
        options(long="half")
    with pytest.raises(SettingError, match="decord decodes whole clips only"):
        extract(corpus, tmp_path / "store", options(long="windows", decoder="decord"))


def test_a_clip_that_is_there_as_windows_alone_is_explained(divided):
    with pytest.raises(UnknownClipError, match=r"as the windows talks/anger/long@0-30, .*@60-70; name one of them"):
        FeatureStore.open(divided).rows(["talks/anger/long"])


def test_damaged_windows_are_repaired_from_their_span(corpus, divided, tmp_path, options):
    store = shutil.copytree(divided, tmp_path / "store")
    whole, entries = files_of(divided), FeatureStore.open(divided).clips
    shard = next((store / "video").glob("*/features/c.0.*"))
    data = bytearray(shard.read_bytes())
    data[5] ^= 0x20
    shard.write_bytes(data)
    table = pq.read_table(store / "clips.parquet").to_pydict()
    table["start_s"][1], table["clip_id"][2] = 12.0, "renamed"
    pq.write_table(pq.read_table(store / "clips.parquet").from_pydict(table, entries.schema), store / "clips.parquet")
    report = repair(store, options())
    assert {int(row) for row in report.damaged} == {0, 1, 2}
    assert not report.left
    assert FeatureStore.open(store).clips.equals(entries)
    assert FeatureStore.open(store).verify() == []
    repaired = files_of(store)
    assert {name for name in whole if name != "clips.parquet" and repaired[name] != whole[name]} == set()


def test_rows_of_names_that_are_not_utf_8_are_repaired(tmp_path, options):
    name = os.fsdecode(b"caf\xe9")
    write_long(tmp_path / "talks" / "anger" / f"{name}.mov", 60.5)
    write_long(tmp_path / "talks" / "fear" / f"short {name}.mov", 2)
    store = tmp_path / "store"
    extract(tmp_path / "talks", store, options(long="windows"))
    sound, entries = files_of(store), FeatureStore.open(store).clips
    assert len(entries) == 3
    for shard in (store / "video").glob("*/features/c.*"):
        data = bytearray(shard.read_bytes())
        data[5] ^= 0x20
        shard.write_bytes(data)
    report = repair(store, options())
    assert (len(report.damaged), report.left) == (2, {})
    assert FeatureStore.open(store).verify() == []
    assert FeatureStore.open(store).clips.equals(entries)
    repaired = files_of(store)
    assert {name for name in sound if name != "clips.parquet" and repaired[name] != sound[name]} == set()


def test_windows_and_silence_survive_export_and_import(divided, tmp_path):
    files = export_hdf5(FeatureStore.open(divided), tmp_path / "h5")
    copy, store = import_hdf5(files, tmp_path / "copy"), FeatureStore.open(divided)
    for name in ("clip_id", "start_s", "end_s", "silent", "source", "duration_s"):
        assert copy.clips[name].to_pylist() == store.clips[name].to_pylist(), name
    assert copy.verify() == []


def test_a_killed_run_is_resumed_without_the_option(corpus, divided, tmp_path, options, extract_and_die):
    settings = options(long="windows")
    _, total = extract_and_die(corpus, tmp_path / "whole", settings, after=0)
    expected = {name: data for name, data in files_of(tmp_path / "whole").items() if name != "clips.parquet"}
    for number, share in enumerate((0.4, 0.8)):
        store = tmp_path / f"broken {number}"
        assert extract_and_die(corpus, store, settings, after=int(share * total))[0]
        extract(corpus, store, options())
        assert names_of(store) == names_of(divided)
        assert {name: data for name, data in files_of(store).items() if name != "clips.parquet"} == expected
        assert FeatureStore.open(store).verify() == []


def test_a_corrected_label_reaches_every_window_and_leaves_its_source(corpus, tmp_path, options):
    root, store = tmp_path / "talks", tmp_path / "store"
    root.mkdir()
    shutil.copy(corpus / "anger" / "long.mov", root / "long.mov")
    (root / "clips.csv").write_text("path,emotion\nlong.mov,anger\n")
    extract(root, store, options(long="windows", streams=("audio",)))
    assert extract(root, store, options(streams=("audio",))).relabelled == 0
    (root / "clips.csv").write_text("path,emotion\nlong.mov,fear\n")
    report = extract(root, store, options(streams=("audio",)))
    assert (report.relabelled, report.encoded) == (3, {})
    clips = FeatureStore.open(store).clips
    assert clips["emotion"].to_pylist() == ["fear"] * 3
    assert len(set(clips["source"].to_pylist())) == 1
    assert clips["source"].to_pylist()[0]
