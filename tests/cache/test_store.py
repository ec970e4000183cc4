"""What is written is what is read, by avem and by any Zarr library."""

import json
import os
import pickle
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avem.cache import FeatureStore, RowDetails, StoreWriter
from avem.cache.manifest.parts import Part
from avem.errors import MissingFileError, SettingError, StoreError, UnknownClipError
from tests.cache.helpers import audio_spec, clip_records, make_store, row_values, video_spec, write_pending


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    rows_per_shard=st.integers(1, 5),
    failing=st.sets(st.integers(0, 20)),
    order=st.randoms(),
)
def test_reads_back_what_was_committed(tmp_path_factory, batches, rows_per_shard, failing, order):
    path = tmp_path_factory.mktemp("store") / "cache"
    spec = video_spec(rows_per_shard=rows_per_shard)
    writer = StoreWriter.open(path)
    clips = 0
    for batch in batches:
        writer.add_clips(clip_records(batch, first=clips), root=path)
        clips += batch
        stream = writer.stream(spec)
        shards = list(stream.pending())
        order.shuffle(shards)
        for shard in shards:
            details = [RowDetails("failed", "broken file") if row in failing else RowDetails() for row in shard.rows]
            stream.write(shard, *row_values(spec, shard.rows), details)
        assert not list(stream.pending())
    before = FeatureStore.open(path)
    writer.finish()
    for store in (before, FeatureStore.open(path)):
        good = [row for row in range(clips) if row not in failing]
        features, pooled = row_values(spec, good) if good else (np.zeros((0, 2, 3, 4)), np.zeros((0, 5)))
        assert store.available("video").tolist() == [row not in failing for row in range(clips)]
        assert np.array_equal(store.video(good).numpy(), features.astype(np.float16))
        expected = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        np.testing.assert_allclose(store.pooled("video")[good], expected, rtol=1e-6)
        assert store.verify() == []


def test_plain_zarr_reads_the_same(tmp_path):
    store = make_store(tmp_path / "cache", clips=10)
    group = zarr.open(str(tmp_path / "cache"), mode="r")
    for kind, name in (("video", "tiny-video"), ("audio", "tiny-audio")):
        array = group[f"{kind}/{name}/features"]
        assert array.shape[0] == 10
        assert np.array_equal(array[:], store.features(kind, range(10)).numpy())
        assert np.array_equal(group[f"{kind}/{name}/pooled"][:], store.pooled(kind))
        assert array.attrs["avem"]["fingerprint"] == store.fingerprint(kind)


def test_zarr_notices_a_flipped_byte(tmp_path):
    make_store(tmp_path / "cache", clips=4)
    shard = tmp_path / "cache/video/tiny-video/features/c.0.0.0.0"
    data = bytearray(shard.read_bytes())
    data[5] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        zarr.open(str(tmp_path / "cache"), mode="r")["video/tiny-video/features"][0]


def test_arrays_that_another_tool_rewrote_are_read_through_zarr(tmp_path):
    store = make_store(tmp_path / "cache", clips=6)
    expected = store.video(range(6))
    folder = tmp_path / "cache/video/tiny-video/features"
    metadata = json.loads((folder / "zarr.json").read_text())
    zarr.create_array(
        folder, data=expected.numpy(), chunks=(2, 2, 3, 4), overwrite=True, attributes=metadata["attributes"]
    )
    again = FeatureStore.open(tmp_path / "cache")
    assert torch.equal(again.video([5, 0, 3]), expected[[5, 0, 3]])
    assert again.verify() == []


def test_reads_into_a_given_buffer_and_refuses_a_wrong_one(tmp_path):
    store = make_store(tmp_path / "cache")
    out = torch.empty((2, 2, 3, 4), dtype=torch.float16)
    assert store.video([1, 2], out=out) is out
    assert torch.equal(out, store.video(torch.tensor([1, 2])))
    with pytest.raises(SettingError, match="buffer of shape"):
        store.video([1, 2, 3], out=out)


def test_threads_share_a_store_and_pickling_opens_it_again(tmp_path):
    store = make_store(tmp_path / "cache", clips=12, rows_per_shard=2)
    expected = store.video(range(12))
    store.stream("video")._readers.clear()
    wrong = []

    def read(seed):
        rows = np.random.default_rng(seed).integers(0, 12, size=200)
        if not torch.equal(store.video(rows), expected[torch.from_numpy(rows)]):
            wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert torch.equal(pickle.loads(pickle.dumps(store)).video([7]), expected[[7]])


def test_a_reader_sees_committed_rows_while_writing_goes_on(tmp_path):
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(6), root=tmp_path)
    spec = video_spec()
    stream = writer.stream(spec)
    first, second = stream.pending()
    stream.write(first, *row_values(spec, first.rows), [RowDetails(fps=25.0)] * 4)
    store = FeatureStore.open(tmp_path / "cache")
    assert store.available("video").tolist() == [True] * 4 + [False] * 2
    assert store.clips["fps"].to_pylist() == [25.0] * 4 + [None] * 2
    stream.write(second, *row_values(spec, second.rows), [RowDetails()] * 2)
    writer.add_clips(clip_records(2, first=6), root=tmp_path)
    write_pending(writer, spec)
    with pytest.raises(StoreError, match=r"toy/004 has no video features .*pending"):
        store.video([4])
    store.refresh()
    assert torch.equal(store.video([7]), FeatureStore.open(tmp_path / "cache").video([7]))


def test_opening_parses_no_more_of_the_manifest_than_it_needs(tmp_path, monkeypatch):
    make_store(tmp_path / "cache", clips=3)
    parsed = []

    class Watched(Part):
        def read(self, names, groups=None, **more):
            parsed.append(list(names))
            return super().read(names, groups, **more)

    monkeypatch.setattr("avem.cache.manifest.parts.Part", Watched)
    store = FeatureStore.open(tmp_path / "cache")
    assert len(store) == 3
    assert store.rows(["toy/002"]).tolist() == [2]
    assert store.available("video").tolist() == [True] * 3
    assert parsed == [["clip_id"], ["clip_id"], ["video_status"]]
    assert store.clips["emotion"].to_pylist() == ["happiness", "sadness", "anger"]
    assert store.clips is store.clips


def test_names_what_is_not_there(tmp_path):
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(4), root=tmp_path)
    stream = writer.stream(audio_spec())
    (shard,) = stream.pending()
    details = [RowDetails(), RowDetails("failed", "no audio stream", has_audio=False), RowDetails(), RowDetails()]
    stream.write(shard, *row_values(audio_spec(), shard.rows), details)
    writer.finish()
    store = FeatureStore.open(tmp_path / "cache")
    assert store.rows(["toy/003", "toy/000"]).tolist() == [3, 0]
    with pytest.raises(UnknownClipError, match="toy/999"):
        store.rows(["toy/000", "toy/999"])
    with pytest.raises(StoreError, match=r"toy/001 has no audio features .*no audio stream"):
        store.audio([0, 1])
    with pytest.raises(UnknownClipError, match="no row 4"):
        store.audio([4])
    with pytest.raises(StoreError, match="has no video features"):
        store.video([0])
    with pytest.raises(StoreError, match="mine them"):
        store.negatives("hard", "audio")
    assert store.media_path(2) == tmp_path.resolve() / "clips/002.mp4"


def test_refuses_what_is_no_store_and_newer_formats(tmp_path):
    with pytest.raises(MissingFileError, match="avem extract"):
        FeatureStore.open(tmp_path / "nothing")
    zarr.create_group(tmp_path / "other")
    with pytest.raises(StoreError, match="not a feature store"):
        FeatureStore.open(tmp_path / "other")
    make_store(tmp_path / "cache", clips=1)
    root = tmp_path / "cache/zarr.json"
    root.write_text(root.read_text().replace('"format_version": 2', '"format_version": 3'))
    for opened in (FeatureStore.open, StoreWriter.open):
        with pytest.raises(StoreError, match="install a newer avem"):
            opened(tmp_path / "cache")


@pytest.mark.parametrize("row_shape", [(2, 3, 4), (1, 90, 100)])
def test_a_shard_truncated_or_replaced_while_it_is_open(tmp_path, row_shape):
    spec = replace(video_spec(), row_shape=row_shape)
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(4), root=tmp_path)
    write_pending(writer, spec)
    store = FeatureStore.open(tmp_path / "cache")
    expected = store.video([3, 0])
    shard = tmp_path / "cache/video/tiny-video/features/c.0.0.0.0"
    content = shard.read_bytes()
    (tmp_path / "other").write_bytes(content)
    (tmp_path / "other").replace(shard)
    assert torch.equal(store.video([3, 0]), expected)
    reader = FeatureStore.open(tmp_path / "cache")
    assert torch.equal(reader.video([3, 0]), expected)
    os.truncate(shard, 40)
    with pytest.raises(StoreError, match="truncated"):
        reader.video([3])
    assert torch.equal(store.video([3, 0]), expected)  # has the old file


def test_reads_through_a_url(tmp_path):
    import fsspec

    store = make_store(tmp_path / "cache", clips=6)
    fsspec.filesystem("memory").put(str(tmp_path / "cache"), "/url-store", recursive=True)
    remote = FeatureStore.open("memory://url-store")
    assert torch.equal(remote.audio([4, 1]), store.audio([4, 1]))
    assert np.array_equal(remote.pooled("video"), store.pooled("video"))
    assert remote.verify() == []
