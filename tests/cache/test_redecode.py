"""Stores made by decord's index are named as such, and `--redecode` makes their clips new without losing any."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avem.cache import FeatureStore, store_info
from avem.cache.decoders import without_decoder
from avem.cache.disk.layout import write_metadata
from avem.cli import main
from avem.errors import FingerprintError, MissingFileError
from avem.extract import ExtractOptions, extract
from avem.extract.encoders.random_weights import make_random_languagebind, make_random_whisper
from avem.extract.redecode import BEGUN, is_begun, redecode
from avem.extract.repair import repair
from avem.files import file_sha256
from tests.cache.helpers import read_entries, write_entries
from tests.extract.conftest import write_clip

CLIPS = 5


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus, the options that extract it, its store as it should be, and one of an avem before `--decoder`.

    What the older avem decoded wrongly is stood in for by other files of the same name.
    """
    root = tmp_path_factory.mktemp("redecode")
    options = ExtractOptions(
        make_random_languagebind(
            root / "video", image_size=32, patch_size=16, hidden=32, layers=1, heads=2, frames=2, projection_dim=8
        ),
        make_random_whisper(root / "audio", width=16, layers=1, heads=2, positions=50),
        workers=1,
        batch_size=1,
        rows_per_shard=2,
    )
    for seed in (7, 0):
        for index in range(CLIPS):
            write_clip(root / "corpus" / "anger" / f"{index}.mp4", frames=5 + index + seed, sound_s=1.0, seed=seed)
        extract(root / "corpus", root / f"store-{seed}", options)
    make_old(root / "store-7", root / "store-0")
    return root, options


def make_old(store: Path, right: Path) -> None:
    """Turn a store into one of an older avem: no decoder in fingerprints and manifest, clips as in the right one."""
    for file in store.glob("*/*/*/zarr.json"):
        content = json.loads(file.read_text())
        content["attributes"]["avem"]["fingerprint"] = without_decoder(content["attributes"]["avem"]["fingerprint"])
        write_metadata(file.parent, content)
    now = read_entries(right)
    cells = {name: now[name].to_pylist() for name in ("sha256", "size_bytes", "modified_ns")}
    cells |= {name: [None] * CLIPS for name in ("video_decoder", "audio_decoder")}
    write_entries(store, **cells)


@pytest.fixture
def old(made, tmp_path):
    shutil.copytree(made[0] / "store-7", tmp_path / "old")
    return tmp_path / "old"


def files_of(store):
    """Bytes of everything that readers see."""
    paths = sorted(path for path in store.rglob("*") if path.is_file() and "ledger" not in path.parts)
    return {str(path.relative_to(store)): path.read_bytes() for path in paths}


def run_command(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """Exit status and output of `avem cache ...`."""
    monkeypatch.setattr(sys, "argv", ["avem", "cache", *arguments])
    try:
        main()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    return status, capsys.readouterr().out


def is_right(made, store) -> bool:
    """Whether a store holds what extraction makes of the corpus today, manifest and metadata too."""
    right, files = files_of(made[0] / "store-0"), files_of(store)
    same_tables = read_entries(store).equals(read_entries(made[0] / "store-0"))
    same_json = all(json.loads(files[name]) == json.loads(right[name]) for name in right if name.endswith("zarr.json"))
    same_bytes = all(files[name] == right[name] for name in right if "/c." in name)
    return files.keys() == right.keys() and same_tables and same_json and same_bytes


def test_an_old_store_opens_and_says_so(old, capsys, monkeypatch):
    store = FeatureStore.open(old)
    assert store.verify() == []
    assert store.video([0]).isfinite().all()
    assert [(s.decoder, s.decoded_old_way) for s in store_info(store).streams] == [("decord", CLIPS)] * 2
    shown = run_command(monkeypatch, capsys, "info", "--cache", str(old))[1]
    assert "5 of 5 clips were decoded by decord" in shown
    assert "avem cache repair --redecode" in shown


def test_a_new_store_says_nothing_of_the_kind(made, capsys, monkeypatch):
    assert [(s.decoder, s.decoded_old_way) for s in store_info(FeatureStore.open(made[0] / "store-0")).streams] == [
        ("pyav", 0),
        ("pyav", 0),
    ]
    assert "old way" not in run_command(monkeypatch, capsys, "info", "--cache", str(made[0] / "store-0"))[1]


def test_clips_are_not_added_by_another_decoder(made, old, tmp_path):
    root, options = made
    corpus = tmp_path / "more"
    write_clip(corpus / "fear" / "1.mp4")
    before = files_of(old)
    with pytest.raises(FingerprintError, match=r"`avem cache repair --redecode`.*`--decoder decord`"):
        extract(corpus, old, options)
    assert files_of(old) == before
    shutil.copytree(root / "store-0", tmp_path / "new")
    before = files_of(tmp_path / "new")
    pytest.importorskip("decord", reason="decord has no wheel for this platform")
    with pytest.raises(FingerprintError, match="decoded by pyav and not by decord"):
        extract(corpus, tmp_path / "new", replace(options, decoder="decord"))
    assert files_of(tmp_path / "new") == before
    report = extract(corpus, old, replace(options, decoder="decord"))
    assert report.encoded == {"video": 1, "audio": 1}
    assert store_info(FeatureStore.open(old)).streams[0].decoded_old_way == CLIPS + 1


def test_redecoding_gives_what_extraction_gives_today(made, old):
    assert not is_right(made, old)
    assert not np.array_equal(
        FeatureStore.open(old).pooled("video"), FeatureStore.open(made[0] / "store-0").pooled("video")
    )
    report = redecode(old, made[1])
    assert (report.redecoded, report.left) == ({"video": CLIPS, "audio": CLIPS}, {})
    assert is_right(made, old)
    assert redecode(old, made[1]).redecoded == {}


def test_nothing_is_given_up_that_can_not_be_made_again(made, old, tmp_path):
    root, options = made
    before = files_of(old)
    shutil.copytree(root / "corpus", tmp_path / "moved")
    (tmp_path / "moved" / "anger" / "3.mp4").unlink()
    write_clip(tmp_path / "moved" / "anger" / "4.mp4", frames=3)
    with pytest.raises(MissingFileError, match=r"2 clips .*anger/3\.mp4.*--root"):
        redecode(old, options, tmp_path / "moved")
    other = make_random_languagebind(
        tmp_path / "other",
        seed=5,
        image_size=32,
        patch_size=16,
        hidden=32,
        layers=1,
        heads=2,
        frames=2,
        projection_dim=8,
    )
    with pytest.raises(FingerprintError, match="--video-encoder"):
        redecode(old, replace(options, video_encoder=other))
    assert files_of(old) == before
    assert not is_begun(old)


def test_a_clip_that_is_refused_now_is_named(made, old, tmp_path, capsys, monkeypatch):
    root, options = made
    shutil.copytree(root / "corpus", tmp_path / "moved", copy_function=shutil.copy2)
    cut = tmp_path / "moved" / "anger" / "2.mp4"
    cut.write_bytes(cut.read_bytes()[:900])
    digests = read_entries(old)["sha256"].to_pylist()
    digests[2] = file_sha256(cut)
    write_entries(old, sha256=digests)
    encoders = ["--video-encoder", str(options.video_encoder), "--audio-encoder", str(options.audio_encoder)]
    where = ["--cache", str(old), "--root", str(tmp_path / "moved")]
    status, shown = run_command(monkeypatch, capsys, "repair", "--redecode", *where, *encoders)
    assert status == 3
    assert "4 video, 4 audio" in shown
    assert "anger/2: 2.mp4 can't be decoded: it is truncated" in shown


def test_a_repair_of_an_old_store_keeps_its_decoder(made, old):
    pytest.importorskip("decord", reason="decord has no wheel for this platform")
    next((old / "video" / "languagebind-video" / "features").glob("c.0.*")).unlink()
    assert len(repair(old, made[1]).repaired) == 2
    assert store_info(FeatureStore.open(old)).streams[0].decoder == "decord"
    assert FeatureStore.open(old).verify() == []


@pytest.fixture
def redecode_and_die(monkeypatch, tmp_path):
    """Runs `dying_run.run` in a fresh process, forked from a server that has everything imported and nothing used."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "extract"))
    import dying_run

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["avem.extract.pipeline", "avem.extract.redecode", "avem.extract.decode.worker", "pandas"]
    )

    def start(store: Path, options: ExtractOptions, after: int) -> tuple[bool, int]:
        process = context.Process(target=dying_run.run, args=(None, store, options, after, tmp_path / "tally"))
        process.start()
        process.join()
        return process.exitcode == -signal.SIGKILL, (tmp_path / "tally").stat().st_size

    return start


def test_a_kill_at_any_moment_loses_nothing(made, old, tmp_path, redecode_and_die):
    shutil.copytree(old, tmp_path / "whole")
    _, total = redecode_and_die(tmp_path / "whole", made[1], 0)
    assert is_right(made, tmp_path / "whole")
    rng = np.random.default_rng(0)
    moments = rng.integers(1, total, 5).tolist()
    for number, after in enumerate(sorted(moments)):
        store = tmp_path / f"store-{number}"
        shutil.copytree(old, store)
        assert redecode_and_die(store, made[1], after)[0]
        kept = FeatureStore.open(store)
        assert kept.verify() == []
        if "decoder" not in kept.fingerprint("video")["preprocessing"]:
            old_rows = FeatureStore.open(old).pooled("video")
            rows = np.flatnonzero(kept.available("video"))
            assert np.array_equal(kept.pooled("video")[rows], old_rows[rows])
        redecode(store, made[1])
        assert is_right(made, store)
        assert not (store / "ledger" / BEGUN).exists()
        shutil.rmtree(store)
