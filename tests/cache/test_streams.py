"""Streams of any name, rows of any length, companions: written, read, rewritten, and refused where they do not fit."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from avem.cache import Companion, FeatureStore, RowDetails, StoreWriter, StreamSpec
from avem.cache.disk import checked_copy
from avem.cache.disk.arrays import stream_arrays
from avem.cache.disk.ragged import place_rows
from avem.cache.upgrade import upgrade
from avem.errors import FingerprintError, SettingError, StoreError
from tests.cache.helpers import clip_records, make_store, video_spec

GOLDEN = Path(__file__).parents[1] / "golden"


def ragged_spec(dtype: str = "float16", **changed: object) -> StreamSpec:
    """Rows [n, 4] with each kind of companion; small chunks, so that rows fill several."""
    fields = {
        "fingerprint": {"weights": "abc"},
        "row_shape": (None, 4),
        "pooled_dim": 4,
        "dtype": dtype,
        "rows_per_shard": 3,
        "longest": 40,
        "chunk": 8,
        "companions": {
            "grid": Companion((3,), "int32"),
            "seconds": Companion((), "float32"),
            "levels": Companion((2, None, 4), "bfloat16"),
        },
    }
    return StreamSpec("video", "patches", **{**fields, **changed})


def row(spec: StreamSpec, number: int, tokens: int) -> dict[str, torch.Tensor]:
    """A clip's features and companions, which depend on its number alone."""
    generator = torch.Generator().manual_seed(number)
    return {
        "features": torch.randn(tokens, 4, generator=generator),
        "pooled": torch.randn(4, generator=generator),
        "grid": torch.tensor([number, tokens, 7], dtype=torch.int32),
        "seconds": torch.tensor(number / 3),
        "levels": torch.randn(2, tokens, 4, generator=generator).to(torch.bfloat16),
    }


def write(stream, lengths: dict[int, int]) -> list[RowDetails]:
    """Write every pending row; rows without a length fail."""
    committed = []
    for shard in stream.pending(retry_failed=True):
        rows = [number for number in shard.rows if number in lengths or not lengths]
        made = [row(stream.spec, number, lengths[number]) if lengths.get(number) else None for number in shard.rows]
        companions = {name: [item and item[name] for item in made] for name in stream.spec.companions}
        committed += stream.write(
            shard,
            [item and item["features"] for item in made],
            torch.stack([item["pooled"] if item else torch.zeros(4) for item in made]),
            [RowDetails() if item else RowDetails("failed", "no frames") for item in made],
            companions,
        )
        assert len(rows) <= len(shard.rows)
    return committed


def check(store: FeatureStore, lengths: dict[int, int]) -> None:
    stream = store.stream("video/patches")
    rows = [number for number, tokens in lengths.items() if tokens]
    assert np.flatnonzero(stream.available).tolist() == sorted(rows)
    for number, features in zip(rows, stream.rows(rows), strict=True):
        wanted = row(stream.spec, number, lengths[number])
        assert torch.equal(features, wanted["features"].to(features.dtype))
        assert torch.equal(stream.companion("grid", [number])[0], wanted["grid"])
        assert torch.equal(stream.companion("seconds", [number])[0], wanted["seconds"])
        assert torch.equal(stream.companion("levels", [number])[0], wanted["levels"])
    assert stream.lengths(rows).tolist() == [lengths[number] for number in rows]
    assert store.verify() == []


def test_rows_of_any_length_come_back_with_their_companions(tmp_path):
    lengths = {0: 5, 1: 40, 2: 1, 3: 17, 4: 0, 5: 33, 6: 8}
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(7), root=tmp_path)
    write(writer.stream(ragged_spec()), lengths)
    check(FeatureStore.open(tmp_path / "cache"), lengths)
    writer.finish()
    store = FeatureStore.open(tmp_path / "cache")
    check(store, lengths)
    assert store.streams == ("video/patches",)
    assert store.kinds == ("video",)
    pooled = store.pooled("video/patches")
    assert np.allclose(np.linalg.norm(pooled, axis=1), [1, 1, 1, 1, 0, 1, 1])


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_other_number_formats(tmp_path, dtype):
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(3), root=tmp_path)
    write(writer.stream(ragged_spec(dtype)), {0: 30, 1: 2, 2: 9})
    stream = FeatureStore.open(tmp_path / "cache").stream("video")
    for number, features in enumerate(stream.rows([0, 1, 2])):
        wanted = row(stream.spec, number, (30, 2, 9)[number])["features"]
        if dtype == "bfloat16":
            assert torch.equal(features, wanted.to(torch.bfloat16))
        else:
            scale = wanted.abs().amax(1, keepdim=True) / 127
            assert features.dtype == torch.float16
            assert ((features.float() - wanted).abs() <= scale * 0.5 + 1e-3).all()
    assert FeatureStore.open(tmp_path / "cache").verify() == []


def test_clips_that_follow_leave_the_others_where_they_are(tmp_path):
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(2), root=tmp_path)
    write(writer.stream(ragged_spec()), {0: 12, 1: 0})
    before = FeatureStore.open(tmp_path / "cache").stream("video").span(0)
    writer.add_clips(clip_records(5), root=tmp_path)
    lengths = {0: 12, 1: 31, 2: 40, 3: 3, 4: 4}
    write(writer.stream(ragged_spec()), lengths)
    store = FeatureStore.open(tmp_path / "cache")
    check(store, lengths)
    assert store.stream("video").span(0) == before


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), min_size=1, max_size=30))
def test_rows_never_overlap_and_never_move(changes):
    array = stream_arrays(ragged_spec(rows_per_shard=6))["features"]
    spans: dict[int, tuple[int, int]] = {}
    for slot, tokens in changes:
        kept = {other: span for other, span in spans.items() if other != slot}
        placed = place_rows(array, kept, {slot: tokens})
        spans = {**kept, **placed}
        taken = sorted((start, -(-stop // array.chunk) * array.chunk) for start, stop in spans.values())
        assert all(end <= following for (_, end), (following, _) in pairwise(taken))
        assert all(start % array.chunk == 0 and stop <= array.shard_tokens for start, stop in spans.values())
        assert all(spans[other] == span for other, span in kept.items())


def test_plain_zarr_reads_rows_by_their_offsets(tmp_path):
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(5), root=tmp_path)
    write(writer.stream(ragged_spec()), {0: 5, 1: 40, 2: 1, 3: 17, 4: 2})
    group = zarr.open(str(tmp_path / "cache"), mode="r")["video/patches"]
    stream = FeatureStore.open(tmp_path / "cache").stream("video")
    for number in range(5):
        start, stop = group["offsets"][number]
        assert np.array_equal(group["features"][start:stop], stream.rows([number])[0].numpy())
        bits = np.asarray(group["levels"][2 * start : 2 * stop]).reshape(2, stop - start, 4)
        assert np.array_equal(bits, stream.companion("levels", [number])[0].view(torch.uint16).numpy())


def test_what_zarr_wrote_in_its_own_way_is_read_too(tmp_path):
    lengths = {0: 5, 1: 40, 2: 1, 3: 17}
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(4), root=tmp_path)
    write(writer.stream(ragged_spec()), lengths)
    writer.finish()
    path = tmp_path / "cache/video/patches/features"
    values, metadata = zarr.open_array(str(path), mode="r"), json.loads((path / "zarr.json").read_text())
    kept = {
        number: values[slice(*pair)] for number, pair in enumerate(zarr.open_array(str(path.parent / "offsets"))[:])
    }
    spans = zarr.open_array(str(path.parent / "offsets"), mode="r")[:]
    shutil.rmtree(path)
    again = zarr.create_array(str(path), shape=values.shape, chunks=(16, 4), dtype=values.dtype, fill_value=0)
    again.attrs.update(metadata["attributes"])
    for number, rows in kept.items():
        again[slice(*spans[number])] = rows
    store = FeatureStore.open(tmp_path / "cache")
    assert store.stream("video").shard_folder("features") is None
    for number, tokens in lengths.items():
        assert torch.equal(store.video([number])[0], row(ragged_spec(), number, tokens)["features"].half())


def test_two_streams_in_one_slot_have_columns_of_their_own(tmp_path):
    make_store(tmp_path / "cache", clips=5)
    writer = StoreWriter.open(tmp_path / "cache")
    write(writer.stream(ragged_spec()), {0: 5, 1: 0, 2: 9, 3: 1, 4: 3})
    writer.finish()
    store = FeatureStore.open(tmp_path / "cache")
    assert store.streams == ("video/tiny-video", "audio/tiny-audio", "video/patches")
    assert store.kinds == ("audio",)
    assert store.clips["video/patches_status"].to_pylist() == ["ok", "failed: no frames", "ok", "ok", "ok"]
    assert store.available("video/tiny-video").all()
    with pytest.raises(StoreError, match=r"several video streams, video/tiny-video and video/patches; name one"):
        store.video([0])
    assert store.stream("video/patches").rows([2])[0].shape == (9, 4)
    assert store.verify() == []
    assert store.damaged_files() == []


def test_a_name_belongs_to_one_encoder(tmp_path):
    writer = StoreWriter.open(tmp_path / "cache")
    writer.stream(ragged_spec())
    with pytest.raises(FingerprintError, match=r"video/patches.*abc.*other"):
        writer.stream(ragged_spec(fingerprint={"weights": "other"}))
    with pytest.raises(StoreError, match="grid, seconds, levels, not float16"):
        writer.stream(ragged_spec(companions={}))
    with pytest.raises(StoreError, match="another store"):
        writer.stream(ragged_spec(row_shape=(None, 8), companions={}, pooled_dim=8))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"row_shape": (4, None)}, "shape (None, C)"),
        ({"row_shape": ()}, "at least one feature axis"),
        ({"companions": {"features": Companion((), "int32")}}, "can't be called 'features'"),
        ({"companions": {"../x": Companion((), "int32")}}, "can't be called '../x'"),
        ({"row_shape": (5, 4)}, "levels follows the length"),
        ({"modality": "smell"}, "visual or audio"),
        ({"longest": 0}, "positive sizes"),
    ],
)
def test_descriptions_that_make_no_sense(changed, said):
    with pytest.raises(SettingError) as caught:
        ragged_spec(**changed)
    assert said in str(caught.value)


@pytest.mark.parametrize("slot", ["ledger", "negatives", "logprobs", "a/b", "", ".x"])
def test_slots_that_are_other_folders(slot):
    with pytest.raises(SettingError, match="slot"):
        StreamSpec(slot, "x", {}, (4,), 4)


def test_rows_that_do_not_fit_are_refused(tmp_path):
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(3), root=tmp_path)
    stream = writer.stream(ragged_spec())
    (shard,) = stream.pending()
    made = [row(stream.spec, number, 3) for number in range(3)]
    features, pooled = [item["features"] for item in made], torch.stack([item["pooled"] for item in made])
    companions = {name: [item[name] for item in made] for name in stream.spec.companions}
    details = [RowDetails()] * 3
    with pytest.raises(SettingError, match="come with the companions grid, seconds, levels, not with none"):
        stream.write(shard, features, pooled, details)
    shorter = {**companions, "levels": [level[:, :2] for level in companions["levels"]]}
    with pytest.raises(SettingError, match=r"levels of patches have shape \(2, 2, 4\)"):
        stream.write(shard, features, pooled, details, shorter)
    with pytest.raises(SettingError, match=r"features of patches have shape \(3, 5\)"):
        stream.write(shard, [torch.zeros(3, 5)] * 3, pooled, details, companions)
    features[0], features[1] = torch.zeros(41, 4), torch.zeros(0, 4)
    companions["seconds"][2] = torch.tensor(float("nan"))
    companions["levels"][:2] = [torch.zeros(2, 41, 4), torch.zeros(2, 0, 4)]
    committed = stream.write(shard, features, pooled, details, companions)
    assert [item.reason for item in committed] == [
        "has 41 tokens, and this stream keeps up to 40 a clip",
        "has no tokens",
        "the companion seconds holds NaN or infinity",
    ]


def damaged(tmp_path: Path, array: str, change) -> FeatureStore:
    """A store of three ragged rows in which one array's first shard was changed."""
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(3), root=tmp_path)
    write(writer.stream(ragged_spec()), {0: 20, 1: 9, 2: 3})
    writer.finish()
    path = next((tmp_path / f"cache/video/patches/{array}").glob("c.0*"))
    change(path)
    return FeatureStore.open(tmp_path / "cache")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("array", ["features", "levels", "grid", "pooled", "offsets"])
def test_a_flipped_bit_names_its_row(tmp_path, array):
    store = damaged(tmp_path, array, flip)
    found = store.verify()
    assert [(int(item), item.clip_id, item.kinds) for item in found] == [(0, "toy/000", ("video",))]
    assert "does not match its checksum" in found[0].problem
    reads = {"features": store.video, "offsets": store.video, "pooled": lambda rows: store.pooled("video")}
    with pytest.raises(StoreError, match=r"toy/000.*row 0 does not match its checksum.*avem cache repair"):
        reads.get(array, lambda rows: store.stream("video").companion(array, rows))([0])
    if array != "pooled":
        assert store.video([1])[0].shape == (9, 4)


@pytest.mark.parametrize("array", ["features", "levels", "offsets"])
@pytest.mark.parametrize(
    "change", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:50]), lambda path: path.write_bytes(b"")]
)
def test_a_lost_or_truncated_shard_names_its_rows(tmp_path, array, change):
    store = damaged(tmp_path, array, change)
    assert [int(item) for item in store.verify()] == [0, 1, 2]
    with pytest.raises(StoreError, match=r"missing, truncated or damaged; `avem cache verify`"):
        store.stream("video").companion("levels", [1]) if array == "levels" else store.video([1])


@pytest.mark.parametrize("pair", [(0, 0), (-32, 4), (0, 999), (1, 5), (64, 90), (8, 4), (10**15, 10**15 + 5)], ids=str)
def test_offsets_that_disagree_with_the_data(tmp_path, pair):
    """Well-formed offsets with a sound checksum that point elsewhere: past the end, into a chunk, at nothing."""
    from avem.cache.disk.shards import write_shard

    def change(path: Path) -> None:
        rows = {slot: np.array([slot * 32, slot * 32 + 3], dtype="<i8").tobytes() for slot in (1, 2)}
        write_shard(path, 3, 16, {0: np.array(pair, dtype="<i8").tobytes(), **rows})

    store = damaged(tmp_path, "offsets", change)
    with pytest.raises(StoreError, match=r"toy/000.*row 0 has offsets.*avem cache repair"):
        store.video([0])
    assert 0 in [int(item) for item in store.verify()]


def test_lost_companions_are_named(tmp_path):
    store = damaged(tmp_path, "grid", lambda path: shutil.rmtree(path.parent))
    with pytest.raises(StoreError, match=r"video/patches/grid has lost its zarr\.json"):
        store.stream("video").companion("grid", [0])
    with pytest.raises(StoreError, match=r"no companion colour; it has grid, seconds, levels"):
        store.stream("video").companion("colour", [0])


def test_a_store_of_format_1_reads_and_verifies(tmp_path):
    shutil.copytree(GOLDEN / "store_format1", tmp_path / "cache")
    wanted = np.load(GOLDEN / "store_format1_expected.npz")
    for done in ("as it was", "upgraded", "upgraded twice"):
        store = FeatureStore.open(tmp_path / "cache")
        assert store.format_version == (1 if done == "as it was" else 2), done
        assert store.streams == ("video/tiny-video", "audio/tiny-audio")
        assert np.array_equal(store.video([0, 1, 10, 3]).numpy(), wanted["video"])
        assert np.array_equal(store.audio([0, 8, 2]).numpy(), wanted["audio"])
        assert np.array_equal(store.pooled("video"), wanted["pooled_video"])
        assert store.verify() == []
        assert store.damaged_files() == []
        upgrade(tmp_path / "cache")


def test_writing_goes_on_in_format_1_until_it_has_no_room(tmp_path):
    shutil.copytree(GOLDEN / "store_format1", tmp_path / "cache")
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(2, first=11), root="/data/toy")
    writer.stream(video_spec())
    assert FeatureStore.open(tmp_path / "cache").format_version == 1
    with pytest.raises(StoreError, match=r"format 1.*no(t for|.*) video/patches.*`avem cache upgrade`"):
        writer.stream(ragged_spec())
    upgrade(tmp_path / "cache")
    write(StoreWriter.open(tmp_path / "cache").stream(ragged_spec()), {number: number + 1 for number in range(13)})
    assert FeatureStore.open(tmp_path / "cache").stream("video/patches").rows([12])[0].shape == (13, 4)


def test_an_upgrade_that_was_killed_is_finished_by_the_next(tmp_path):
    """The root is of the new format and its copy of the old one: both read, and the next upgrade evens them."""
    shutil.copytree(GOLDEN / "store_format1", tmp_path / "cache")
    old_copy = (tmp_path / "cache/ledger/root.json").read_bytes()
    upgrade(tmp_path / "cache")
    (tmp_path / "cache/ledger/root.json").write_bytes(old_copy)
    store = FeatureStore.open(tmp_path / "cache")
    assert (store.format_version, store.damaged_files(), store.verify()) == (2, [], [])
    assert upgrade(tmp_path / "cache") == 2
    assert (tmp_path / "cache/ledger/root.json").read_bytes() == (tmp_path / "cache/zarr.json").read_bytes()


def test_one_vector_a_clip(tmp_path):
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(5), root=tmp_path)
    spec = StreamSpec("face", "mae", {"from": "npy"}, (6,), 6, rows_per_shard=2)
    vectors = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    stream = writer.stream(spec)
    for shard in stream.pending():
        rows = list(shard.rows)
        stream.write(shard, vectors[rows], vectors[rows], [RowDetails()] * len(rows))
    found = FeatureStore.open(tmp_path / "cache").stream("face/mae")
    assert found.spec.modality == "visual"
    assert torch.equal(found.rows([4, 0]), vectors[[4, 0]].half())


@pytest.mark.skipif(not checked_copy.has_instruction(), reason="the processor has no SSE 4.2")
def test_the_compiled_kernel_reads_the_same_rows_and_finds_the_same_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(checked_copy, "COMPILE_AFTER_BYTES", -1)
    lengths = {0: 40, 1: 9, 2: 8}  # of whole chunks of 8, with and without a rest
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(clip_records(3), root=tmp_path)
    write(writer.stream(ragged_spec()), lengths)
    check(FeatureStore.open(tmp_path / "cache"), lengths)
    path = tmp_path / "cache/video/patches/features/c.0.0"
    data = bytearray(path.read_bytes())
    data[3 * 68 + 5] ^= 4  # in the fourth chunk of row 0, each 64 bytes and a checksum
    path.write_bytes(data)
    store = FeatureStore.open(tmp_path / "cache")
    with pytest.raises(StoreError, match=r"toy/000.*row 0 does not match its checksum"):
        store.video([0])
    assert [tensor.shape[0] for tensor in store.video([1, 2])] == [9, 8]
