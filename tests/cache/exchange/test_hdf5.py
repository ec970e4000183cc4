"""HDF5 out and in, and the numbers of a store."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from avem.cache import FeatureStore, RowDetails, StoreWriter, mine_negatives
from avem.cache.exchange.hdf5 import export_hdf5, import_hdf5
from avem.cache.info import store_info
from avem.errors import MissingFileError, StoreError
from tests.cache.helpers import (
    audio_spec,
    clip_records,
    make_store,
    ragged_spec,
    ragged_values,
    row_values,
    video_spec,
    write_pending,
)


def store_with_a_failure(path, dtype="float16"):
    writer = StoreWriter.open(path)
    writer.add_clips(clip_records(6), root=path.parent)
    write_pending(writer, video_spec(dtype))
    stream = writer.stream(audio_spec(dtype))
    for shard in stream.pending():
        details = [RowDetails("failed", "no audio") if row == 2 else RowDetails(fps=25.0) for row in shard.rows]
        stream.write(shard, *row_values(audio_spec(), shard.rows), details)
    writer.add_clips(clip_records(1, first=6), root=path.parent)
    writer.finish()
    return FeatureStore.open(path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_store_comes_back_from_hdf5_the_same(tmp_path, dtype):
    store = store_with_a_failure(tmp_path / "cache", dtype)
    files = export_hdf5(store, tmp_path / "out")
    assert [path.name for path in files] == ["video.h5", "audio.h5"]
    again = import_hdf5(files, tmp_path / "again")
    assert again.clips.equals(store.clips)
    assert again.roots == store.roots
    for kind in ("video", "audio"):
        rows = np.flatnonzero(store.available(kind))
        assert torch.equal(again.features(kind, rows), store.features(kind, rows))
        assert np.array_equal(again.pooled(kind), store.pooled(kind))
        assert again.spec(kind) == store.spec(kind)
    assert again.verify() == []


def test_h5py_reads_the_features(tmp_path):
    store = store_with_a_failure(tmp_path / "cache", "int8")
    export_hdf5(store, tmp_path / "out")
    with h5py.File(tmp_path / "out/audio.h5") as file:
        assert file["available"][:].tolist() == [True, True, False, True, True, True, False]
        assert np.array_equal(file["features"][3], store.audio([3])[0].numpy())
        assert file["features"].id.get_num_chunks() == 5


def test_refuses_what_is_no_export(tmp_path):
    with pytest.raises(MissingFileError, match="no file"):
        import_hdf5([tmp_path / "x.h5"], tmp_path / "a")
    (tmp_path / "text.h5").write_text("not HDF5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["features"] = np.zeros(3)
    for name in ("text.h5", "other.h5"):
        with pytest.raises(StoreError, match="not a stream exported by avem"):
            import_hdf5([tmp_path / name], tmp_path / "b")


def test_the_numbers_of_a_store(tmp_path):
    store = store_with_a_failure(tmp_path / "cache", "int8")
    mine_negatives(store, k=2)
    info = store_info(store)
    assert (info.clips, info.datasets, info.splits) == (7, {"toy": 7}, {"train": 7})
    assert info.emotions == {"happiness": 2, "sadness": 2, "anger": 2, "neutral": 1}
    video, audio = info.streams
    assert (video.rows, video.failed, video.pending) == (6, 0, 1)
    assert (audio.rows, audio.failed, audio.pending) == (5, 1, 1)
    assert video.bytes == 6 * ((24 + 4) + (20 + 4) + (6 * 4 + 4) + (4 + 4))
    assert [(failure.clip_id, failure.kind, failure.reason) for failure in info.failures] == [
        ("toy/002", "audio", "no audio")
    ]
    assert 0 < video.int8_error <= video.int8_error_largest < 0.01
    assert {(item["recipe"], item["modality"], item["k"]) for item in info.negatives} == {
        ("hard", "audio", 2),
        ("hard", "video", 2),
        ("hard", "audiovisual", 2),
    }
    assert info.to_json()["streams"][0]["encoder"] == "tiny-video"


def test_other_types_have_no_int8_error(tmp_path):
    assert store_info(make_store(tmp_path / "cache", clips=2)).streams[0].int8_error is None


def store_with_ragged_rows(path, dtype="float16"):
    """A fixed and a ragged stream in one slot; row 2 of the ragged one failed, and row 6 is pending."""
    writer = StoreWriter.open(path)
    writer.add_clips(clip_records(6), root=path.parent)
    write_pending(writer, replace(video_spec(), kind="frame"))
    stream = writer.stream(ragged_spec(dtype))
    for shard in stream.pending():
        features, pooled, companions = ragged_values(shard.rows)
        details = [RowDetails("failed", "no frames") if row == 2 else RowDetails(decoder="pyav") for row in shard.rows]
        stream.write(shard, features, pooled, details, companions)
    writer.add_clips(clip_records(1, first=6), root=path.parent)
    writer.finish()
    return FeatureStore.open(path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_rows_of_any_length_come_back_from_hdf5_with_their_companions(tmp_path, dtype):
    store = store_with_ragged_rows(tmp_path / "cache", dtype)
    files = export_hdf5(store, tmp_path / "out")
    assert [path.name for path in files] == ["frame.h5", "frame.tiny-patches.h5"]
    again = import_hdf5(files, tmp_path / "again")
    assert again.clips.equals(store.clips)
    assert again.streams == store.streams
    old, new = (opened.stream("frame/tiny-patches") for opened in (store, again))
    rows = np.flatnonzero(old.available)
    assert rows.tolist() == [0, 1, 3, 4, 5]
    assert all(map(torch.equal, new.rows(rows), old.rows(rows)))
    for name in ("grid", "levels"):
        assert all(map(torch.equal, new.companion(name, rows), old.companion(name, rows)))
    assert np.array_equal(new.pooled(), old.pooled())
    assert again.verify() == []


def test_h5py_reads_rows_of_any_length_by_their_offsets(tmp_path):
    store = store_with_ragged_rows(tmp_path / "cache")
    export_hdf5(store, tmp_path / "out")
    with h5py.File(tmp_path / "out/frame.tiny-patches.h5") as file:
        offsets = file["offsets"][:]
        for row in (0, 1, 3, 4, 5):
            values = file["features"][offsets[row] : offsets[row + 1]]
            assert np.array_equal(values, store.stream("frame/tiny-patches").rows([row])[0].numpy())
        assert offsets[2] == offsets[3]
        assert offsets[-1] == len(file["features"])
        file_bytes = file["companions/grid"][4]
    assert file_bytes.tolist() == ragged_values([4])[2]["grid"][0].tolist()


def test_a_changed_companion_is_refused(tmp_path):
    files = export_hdf5(store_with_ragged_rows(tmp_path / "cache"), tmp_path / "out")
    with h5py.File(files[1], "r+") as file:
        file["companions/grid"][0] = [9, 9, 9]
    with pytest.raises(StoreError, match="does not match its checksum"):
        import_hdf5(files, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_ragged_stream_without_rows(tmp_path):
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(2), root=tmp_path)
    writer.stream(ragged_spec())
    (file,) = export_hdf5(FeatureStore.open(tmp_path / "cache"), tmp_path / "out")
    again = import_hdf5([file], tmp_path / "again")
    assert again.streams == ("frame/tiny-patches",)
    assert not again.available("frame").any()
