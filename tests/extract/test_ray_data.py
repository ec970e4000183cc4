"""`read_clips` gives the clips of a store or of a folder, decoded as extraction decodes them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from avem.cache import ClipRecord, FeatureStore, StoreWriter
from avem.errors import MissingFileError, SettingError
from avem.extract import read_clips, read_dataset, read_waveform, sample_frames


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, make_clip):
    root = tmp_path_factory.mktemp("corpus") / "mini"
    for index in range(4):
        make_clip(root / ("anger", "fear")[index % 2] / f"{index}.mp4", frames=6 + index, sound_s=1.2, seed=index)
    (root / "fear" / "9.mp4").write_bytes(b"no clip")
    return root


@pytest.fixture(scope="module")
def store(corpus):
    path = corpus.parent / "cache"
    records = [ClipRecord.of(clip, "0" * 64) for clip in read_dataset(corpus)]
    StoreWriter.open(path).add_clips(records, corpus)
    return path


@pytest.fixture(scope="module")
def ray():
    pytest.importorskip("ray.data", reason="the extra avem[ray] is not installed")
    import ray

    ray.init("local", num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield ray
    ray.shutdown()


@pytest.mark.parametrize("kind", ["store", "folder", "open store"])
def test_rows_are_the_clips_with_what_extraction_decodes(ray, corpus, store, kind):
    source = {"store": str(store), "folder": corpus, "open store": FeatureStore.open(store)}[kind]
    rows = {row["clip_id"]: row for row in read_clips(source, decode=["video", "audio"], frames=3).take_all()}
    clips = read_dataset(corpus)
    assert sorted(rows) == sorted(clip.clip_id for clip in clips)
    for clip in clips:
        row, path = rows[clip.clip_id], corpus / clip.path
        assert (row["file"], row["emotion"]) == (str(path), str(clip.emotion))
        if path.name == "9.mp4":
            assert (row["frames"].shape[0], len(row["sound"])) == (0, 0)
            assert "9.mp4" in row["video_error"]
            continue
        assert np.array_equal(row["frames"], sample_frames(path, 3))
        assert np.array_equal(row["sound"], read_waveform(path))
        assert (row["video_error"], row["audio_error"]) == ("", "")


def test_without_decoding_the_files_are_not_read(ray, store):
    clips = read_clips(store)
    assert clips.count() == 5
    assert "frames" not in clips.schema().names
    assert clips.map_batches(lambda batch: {"n": np.array([len(batch["file"])])}).sum("n") == 5


def test_ray_is_an_extra(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingError, match=r"avem\[ray\]"):
        read_clips(store)


@pytest.mark.parametrize("wrong", [{"decode": ["face"]}, {"frames": 0}, {"decoder": "ffmpeg"}])
def test_settings_that_make_no_sense(ray, store, wrong):
    with pytest.raises(SettingError, match="read_clips decodes"):
        read_clips(store, **wrong)


def test_nothing_there(ray, tmp_path):
    with pytest.raises(MissingFileError, match="neither a store nor a folder"):
        read_clips(tmp_path / "nothing")
