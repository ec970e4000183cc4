"""Extraction fills a store with the encoders' own features, records every failure, and can be taken up again."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from avem.cache import FeatureStore
from avem.errors import CheckpointError, DataError, FingerprintError, SettingError, StoreError
from avem.extract import ExtractOptions, extract, load_audio_encoder, load_video_encoder, read_waveform, sample_frames
from avem.extract.encoders.random_weights import make_random_languagebind


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, make_clip):
    """Ten good clips of two emotions."""
    root = tmp_path_factory.mktemp("corpus") / "mini"
    for index in range(10):
        emotion = ("anger", "happiness")[index % 2]
        make_clip(root / emotion / f"{index}.mp4", frames=4 + index, sound_s=1.0, seed=index)
    return root


@pytest.fixture
def options(encoders):
    def make(**changes):
        return ExtractOptions(**{**encoders, "workers": 1, "batch_size": 3, "rows_per_shard": 4, **changes})

    return make


def files_of(store):
    """Bytes of everything in a store that readers see; the ledger is bookkeeping."""
    paths = sorted(path for path in store.rglob("*") if path.is_file() and "ledger" not in path.parts)
    return {str(path.relative_to(store)): path.read_bytes() for path in paths}


def test_features_are_the_encoders_own(corpus, tmp_path, options, encoders):
    report = extract(corpus, tmp_path / "store", options())
    assert (report.clips, report.encoded, report.failures) == (10, {"video": 10, "audio": 10}, [])
    store = FeatureStore.open(tmp_path / "store")
    video, audio = load_video_encoder(encoders["video_encoder"]), load_audio_encoder(encoders["audio_encoder"])
    assert store.fingerprint("video") == video.fingerprint()
    for row in (0, 3, 9):
        path = corpus / store.clips["path"][row].as_py()
        features, pooled = video.encode(video.preprocess(sample_frames(path, video.frames))[None])
        torch.testing.assert_close(store.video([row])[0].float(), features[0], atol=5e-3, rtol=1e-3)
        np.testing.assert_allclose(store.pooled("video")[row], pooled[0], atol=1e-5)
        sounds, _ = audio.encode(audio.preprocess(read_waveform(path))[None])
        torch.testing.assert_close(store.audio([row])[0].float(), sounds[0], atol=5e-3, rtol=1e-3)
    clip = store.clips.slice(1, 1).to_pylist()[0]
    assert (clip["frames"], clip["fps"], clip["has_audio"], clip["emotion"]) == (6, 8.0, True, "anger")
    assert clip["duration_s"] == pytest.approx(1.0, abs=0.1)
    assert store.verify() == []


def test_a_second_run_changes_nothing_and_loads_nothing(corpus, tmp_path, options, monkeypatch):
    store = tmp_path / "store"
    extract(corpus, store, options())
    before = files_of(store)
    monkeypatch.setattr("avem.extract.pipeline.open_engine", lambda *_: pytest.fail("the encoders were loaded"))
    report = extract(corpus, store, options())
    assert (report.encoded, report.failures) == ({}, [])
    assert files_of(store) == before


def test_the_time_account_is_kept(corpus, tmp_path, options):
    report = extract(corpus, tmp_path / "store", options())
    [run] = [
        json.loads(line) for line in (tmp_path / "store" / "ledger" / "extract-runs.jsonl").read_text().splitlines()
    ]
    assert run["encoded"] == {"video": 10, "audio": 10}
    assert run["limiting_stage"] in ("decode", "encode", "write")
    assert run["seconds"]["decode"] > 0
    assert sum(run["seconds"][name] for name in ("plan", "load", "wait", "encode")) <= run["seconds"]["total"] + 0.01
    assert "limits" in report.summary


def test_limit_streams_and_growth_give_the_same_store_as_one_run(corpus, tmp_path, options):
    extract(corpus, tmp_path / "whole", options())
    extract(corpus, tmp_path / "parts", options(limit=3, streams=("audio",)))
    extract(corpus, tmp_path / "parts", options(limit=6, streams=("video",)))
    report = extract(corpus, tmp_path / "parts", options(workers=2))
    assert report.encoded == {"video": 4, "audio": 7}
    whole, parts = (FeatureStore.open(tmp_path / name) for name in ("whole", "parts"))
    rows = list(range(10))
    torch.testing.assert_close(whole.video(rows), parts.video(rows), atol=2e-3, rtol=1e-2)
    torch.testing.assert_close(whole.audio(rows), parts.audio(rows), atol=2e-3, rtol=1e-2)
    assert parts.verify() == []


def test_a_second_dataset_is_appended(corpus, tmp_path, options, make_clip):
    store = tmp_path / "store"
    extract(corpus, store, options(limit=3))
    make_clip(tmp_path / "other" / "sadness" / "x.mp4")
    report = extract(tmp_path / "other", store, options())
    assert (report.clips, report.encoded) == (1, {"video": 1, "audio": 1})
    clips = FeatureStore.open(store).clips
    assert clips["dataset"].to_pylist() == ["mini"] * 3 + ["other"]
    assert set(clips["video_status"].to_pylist()) == {"ok"}


def test_two_folders_of_one_dataset_are_both_remembered(tmp_path, options, make_clip):
    store_path = tmp_path / "store"
    for part in ("first", "second"):
        make_clip(tmp_path / part / "faces" / "anger" / f"{part}.mp4")
        extract(tmp_path / part / "faces", store_path, options())
    store = FeatureStore.open(store_path)
    assert [store.media_path(row).stem for row in (0, 1)] == ["first", "second"]
    assert all(store.media_path(row).is_file() for row in (0, 1))
    assert set(store.roots.values()) == {str(tmp_path / part / "faces") for part in ("first", "second")}
    shutil.move(tmp_path / "first", tmp_path / "moved")
    extract(tmp_path / "moved" / "faces", store_path, options())
    store.refresh()
    assert store.media_path(0) == tmp_path / "moved" / "faces" / "anger" / "first.mp4"
    assert str(tmp_path / "first" / "faces") not in store.roots.values()


def test_dry_run_and_full_disk_write_nothing(corpus, tmp_path, options, monkeypatch):
    store = tmp_path / "store"
    report = extract(corpus, store, options(dry_run=True))
    row_bytes = 2 * (4 * 5 * 32 + 50 * 32) + 4 * (16 + 32)
    assert report.bytes_needed == int(1.02 * 10 * row_bytes)
    assert report.pending == {"video": 10, "audio": 10}
    assert "10 video, 10 audio to extract" in report.summary
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(StoreError, match=r"--dtype int8|larger disk"):
        extract(corpus, store, options())
    assert not store.exists()


def test_a_changed_file_is_named(corpus, tmp_path, options, make_clip):
    root = tmp_path / "copy"
    shutil.copytree(corpus, root)
    extract(root, tmp_path / "store", options(limit=2))
    make_clip(root / "anger" / "0.mp4", frames=7, seed=99)
    with pytest.raises(StoreError, match="copy/anger/0"):
        extract(root, tmp_path / "store", options(limit=2))


def test_another_encoder_and_another_kind_of_features_are_refused(corpus, tmp_path, options):
    store = tmp_path / "store"
    extract(corpus, store, options(limit=2))
    other = make_random_languagebind(
        tmp_path / "m", image_size=32, patch_size=16, hidden=32, layers=2, heads=2, frames=4, projection_dim=16, seed=5
    )
    with pytest.raises(FingerprintError, match="weights_sha256"):
        extract(corpus, store, options(limit=4, video_encoder=other))
    with pytest.raises(StoreError, match="int8"):
        extract(corpus, store, options(limit=4, dtype="int8"))
    assert len(FeatureStore.open(store).clips) <= 4


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_other_ways_to_keep_features(corpus, tmp_path, options, dtype):
    extract(corpus, tmp_path / "exact", options(limit=3))
    extract(corpus, tmp_path / "store", options(limit=3, dtype=dtype))
    exact, kept = (FeatureStore.open(tmp_path / name).video([0, 1, 2]).float() for name in ("exact", "store"))
    assert (exact - kept).abs().mean() < 0.02 * exact.abs().mean()


@pytest.mark.parametrize(
    "changes", [{"limit": 0}, {"workers": -1}, {"dtype": "float64"}, {"streams": ()}, {"precision": "int4"}]
)
def test_wrong_options_name_themselves(options, changes):
    with pytest.raises(SettingError, match=f"--{next(iter(changes))}"):
        options(**changes)


def test_a_device_that_is_not_there(corpus, tmp_path, options):
    with pytest.raises(SettingError, match="--device"):
        extract(corpus, tmp_path / "store", options(device="cuda:77"))


def awkward_corpus(root: Path, make_clip, make_rotated, long_clip) -> dict[str, str]:
    """Clips that are odd or broken; what each stream's failure says, `video: ..., audio: ...`, empty where it works."""
    good = make_clip(root / "anger" / "a good one.mp4", frames=9)
    expected = {"a good one": ""}
    odd = {
        "silent": {"sound": 0.0},
        "one frame": {"frames": 1},
        "fifth of a second": {"frames": 2, "sound_s": 0.2},
        "odd size": {"size": (61, 37), "pix_fmt": "yuv444p"},
        "varying": {"frames": 4, "pts": [0, 40, 600, 610]},
    }
    for name, settings in odd.items():
        make_clip(root / "anger" / f"{name}.mp4", **settings)
        expected[name] = ""
    (root / "anger" / ("ü怒" * 30 + ".mp4")).write_bytes(good.read_bytes() + b"\0")
    expected["ü怒" * 30] = ""
    shutil.copy(long_clip, root / "anger")
    expected["ten minutes"] = ""
    make_rotated(make_clip(root / "anger" / "rotated.mp4"), 90)
    expected["rotated"] = ""
    make_clip(root / "anger" / "mute.mp4", sound=None)
    expected["mute"] = "audio: mute.mp4 has no audio stream."
    broken = {"empty": b"", "text": b"words\n" * 99, "truncated": good.read_bytes()[:2000]}
    for name, content in broken.items():
        (root / "anger" / f"{name}.mp4").write_bytes(content)
        expected[name] = f"{name}.mp4 is empty." if name == "empty" else f"{name}.mp4 can't be decoded"
    (root / "anger" / "dangling.mp4").symlink_to(root / "nowhere")
    expected["dangling"] = "can't be read"
    return expected


def test_odd_and_broken_clips_are_recorded_and_the_rest_is_complete(
    tmp_path, options, make_clip, make_rotated, long_clip
):
    root, store_path = tmp_path / "odd", tmp_path / "store"
    expected = awkward_corpus(root, make_clip, make_rotated, long_clip)
    report = extract(root, store_path, options(workers=2))
    reasons: dict[str, dict[str, str]] = {}
    for failure in report.failures:
        reasons.setdefault(failure.clip_id.removeprefix("odd/anger/"), {})[failure.kind] = failure.reason
    assert set(reasons) == {name for name, words in expected.items() if words}
    assert reasons.pop("mute") == {"audio": "mute.mp4 has no audio stream."}
    assert set(reasons.pop("dangling")) == {"file"}
    for name, found in reasons.items():
        assert set(found) == {"video", "audio"}
        assert all(expected[name] in reason for reason in found.values())
        assert str(tmp_path) not in "".join(found.values())
    store = FeatureStore.open(store_path)
    whole = [name for name, words in expected.items() if not words]
    rows = store.rows([f"odd/anger/{name}" for name in whole])
    assert store.video(rows).isfinite().all()
    assert store.audio(rows).isfinite().all()
    assert store.available("video").sum() == len(whole) + 1
    assert store.clips["audio_status"].to_pylist().count("failed: mute.mp4 has no audio stream.") == 1
    again = extract(root, store_path, options())
    assert (again.encoded, len(again.failures)) == ({}, len(report.failures))


def test_a_folder_that_can_not_be_read_is_named_and_the_rest_is_complete(tmp_path, options, make_clip, locked):
    root, store_path = tmp_path / "d", tmp_path / "store"
    for emotion in ("anger", "fear", "sadness"):
        make_clip(root / emotion / "1.mp4")
    with locked(root / "fear"):
        for dry_run in (True, False):
            report = extract(root, store_path, options(dry_run=dry_run))
            assert report.pending == {"video": 2, "audio": 2}
            assert [(failure.clip_id, failure.kind) for failure in report.failures] == [("fear/", "file")]
            assert "; 1 folder can't be read." in report.summary
            assert "fear can't be read (Permission denied)" in report.summary
    assert report.encoded == {"video": 2, "audio": 2}
    report = extract(root, store_path, options())
    assert (report.encoded, report.failures) == ({"video": 1, "audio": 1}, [])


def test_a_disk_that_fills_up_ends_the_run_and_loses_nothing(corpus, tmp_path, options, monkeypatch):
    extract(corpus, tmp_path / "whole", options())
    store, fsync, written = tmp_path / "store", os.fsync, []

    def fill_up(handle):
        name = str(Path(f"/proc/self/fd/{handle}").readlink())
        written.extend([name] * ("/features/.c." in name))
        if len(written) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill_up)
        with pytest.raises(StoreError, match="the disk is full; make room"):
            extract(corpus, store, options())
    assert 0 < FeatureStore.open(store).available("video").sum() < 10
    report = extract(corpus, store, options())
    assert 0 < report.encoded["video"] < 10
    assert files_of(store) == files_of(tmp_path / "whole")


def test_what_another_run_has_claimed_is_left_to_it_and_said(corpus, tmp_path, options):
    from avem.cache import StoreWriter

    store = tmp_path / "store"
    extract(corpus, store, options(limit=4))
    extract(corpus, store, options(streams=("video",)))
    spec = FeatureStore.open(store).spec("audio")
    other = StoreWriter.open(store).stream(spec)
    assert other.claim(next(other.pending()))
    report = extract(corpus, store, options())
    assert (report.encoded, report.left) == ({"video": 0, "audio": 2}, {"audio": 4})
    assert "Another run has claimed 4 audio" in report.summary
    other.close()
    report = extract(corpus, store, options())
    assert (report.encoded, report.left) == ({"video": 0, "audio": 4}, {})


def test_a_wrong_checkpoint_is_named_and_nothing_is_made(corpus, tmp_path, options, encoders):
    swapped = {"video_encoder": encoders["audio_encoder"], "audio_encoder": encoders["video_encoder"]}
    for name, path in swapped.items():
        with pytest.raises(CheckpointError, match=str(path)):
            extract(corpus, tmp_path / "store", options(**{name: path}))
    assert not (tmp_path / "store").exists()


def test_the_manifest_says_which_decoder_read_a_clip(tmp_path, options, make_clip):
    pytest.importorskip("decord", reason="decord has no wheel for this platform")
    for index in range(2):
        make_clip(tmp_path / "d" / "anger" / f"{index}.mp4", frames=5 + index)
    for decoder in ("pyav", "decord"):
        extract(tmp_path / "d", tmp_path / decoder, options(decoder=decoder))
        store = FeatureStore.open(tmp_path / decoder)
        assert store.clips["video_decoder"].to_pylist() == store.clips["audio_decoder"].to_pylist() == [decoder] * 2
        assert all(store.fingerprint(kind)["preprocessing"]["decoder"] == decoder for kind in ("video", "audio"))
        assert store.verify() == []


def test_retrying_failed_clips(corpus, tmp_path, options, monkeypatch):
    from avem.extract.decode import pool

    monkeypatch.setattr(pool.DecodePool, "_collect", _crash_second(pool.DecodePool._collect))
    report = extract(corpus, tmp_path / "store", options())
    monkeypatch.undo()
    assert [(failure.kind, failure.reason) for failure in report.failures] == [
        ("audio", "the decoder crashed (SIGKILL)")
    ]
    report = extract(corpus, tmp_path / "store", options())
    assert len(report.failures) == 1
    report = extract(corpus, tmp_path / "store", options(retry_failed=True))
    assert (report.encoded, report.failures) == ({"video": 0, "audio": 1}, [])
    store = FeatureStore.open(tmp_path / "store")
    assert store.available("video").all()
    assert store.verify() == []


def test_a_broken_file_that_is_fetched_again_is_extracted(tmp_path, options, make_clip):
    root, store = tmp_path / "d", tmp_path / "store"
    good = make_clip(root / "anger" / "1.mp4")
    (root / "anger" / "0.mp4").write_bytes(good.read_bytes()[:999])
    assert len(extract(root, store, options()).failures) == 2
    make_clip(root / "anger" / "0.mp4", frames=7, seed=3)
    report = extract(root, store, options())
    assert (report.encoded, report.failures) == ({"video": 1, "audio": 1}, [])
    assert FeatureStore.open(store).clips["frames"].to_pylist() == [7, 12]


def _crash_second(collect):
    """Let the worker die at the second answer that is collected."""
    seen = []

    def collect_or_crash(self, worker):
        seen.append(worker)
        if len(seen) == 2:
            self._bury(worker, "the decoder crashed (SIGKILL)")
        else:
            collect(self, worker)

    return collect_or_crash


def test_a_dataset_without_a_readable_file_is_an_error(tmp_path, options):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "clips.csv").write_text("path,emotion\na.mp4,sad\n")
    with pytest.raises(DataError, match="None of the 1 clips"):
        extract(tmp_path / "d", tmp_path / "store", options())
    assert not (tmp_path / "store").exists()


def test_a_folder_of_something_else_is_no_store(corpus, tmp_path, options):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.tex").write_text("precious")
    with pytest.raises(SettingError, match="not a feature store made by avem"):
        extract(corpus, tmp_path / "store", options())
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["thesis.tex"]


def test_killing_the_run_at_any_moment_loses_nothing(corpus, tmp_path, options, extract_and_die):
    settings = options(limit=5, rows_per_shard=2)
    _, total = extract_and_die(corpus, tmp_path / "whole", settings, after=0)
    expected = files_of(tmp_path / "whole")
    store = tmp_path / "broken"
    rng = np.random.default_rng(0)
    killed = 0
    for _ in range(20):
        after = int(rng.integers(1, total))
        if extract_and_die(corpus, store, settings, after)[0]:
            killed += 1
            continue
        assert files_of(store) == expected
        shutil.rmtree(store)
    assert killed >= 10
    extract_and_die(corpus, store, settings, after=0)
    assert files_of(store) == expected
    assert FeatureStore.open(store).verify() == []


def test_the_real_ravdess_clips(shared, tmp_path, options):
    report = extract(shared / "data" / "ravdess", tmp_path / "store", options())
    assert (report.clips, report.encoded, report.failures) == (13, {"video": 13, "audio": 13}, [])
    clips = FeatureStore.open(tmp_path / "store").clips
    assert set(clips["frames"].to_pylist()) == {20}
    assert all(3 < seconds < 5.5 for seconds in clips["duration_s"].to_pylist())
    report = extract(shared / "data" / "ravdess_720p", tmp_path / "store", options())
    assert (report.encoded, report.failures) == ({"video": 3, "audio": 3}, [])
