"""Every command that writes, on a disk that is read-only, and on one that fills up somewhere in the middle.

Each command is tried with no room, and then with four times as much until it has enough. Every failure is one sentence
and status 2, leaves no temporary file, and loses nothing that was there; the same command then ends well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from avem.cache import FeatureStore, mine_negatives
from avem.cache.exchange.hdf5 import export_hdf5
from avem.cli import main
from avem.evaluate.emorealm.results import read_result
from avem.extract import ExtractOptions, extract
from avem.extract.encoders.random_weights import make_random_languagebind, make_random_whisper
from avem.records import Question
from avem.train import load_model
from tests.cache.helpers import make_store
from tests.extract.conftest import write_clip
from tests.train.training_kit import CLIPS, Kit, make_kit

SIZE = 24 << 20
PAGE = 4096
"""A disk in memory gives room by whole pages."""
ROOM = (0, 1, 4, 16, 64, 256, 1024)
"""Pages that are left free, until a command has enough."""


@dataclass(frozen=True)
class Place:
    """What the commands read, on a disk with room, and the small disk that they write to."""

    kit: Kit
    questions: Path
    media: Path
    corpus: Path
    store: Path
    """Extracted from the corpus."""
    hdf5: list[Path]
    result: Path
    encoders: list[str]
    disk: Path = Path()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Place:
    folder = tmp_path_factory.mktemp("made")
    kit = make_kit(folder / "kit")
    options = ("(A) a loud voice", "(B) a soft voice", "(C) rain", "(D) a laugh")
    asked = [Question(f"q{n}", f"{n:03d}.mp4", "reasoning_basic_audio", "Which?", options, "A") for n in range(CLIPS)]
    (folder / "q.json").write_text(json.dumps([question.to_json() for question in asked]))
    for number in range(CLIPS):
        (folder / "media").mkdir(exist_ok=True)
        (folder / "media" / f"{number:03d}.mp4").write_bytes(os.urandom(3 * PAGE))
    for number, emotion in enumerate(("anger", "fear", "anger")):
        write_clip(folder / "corpus" / emotion / f"{number}.mp4", frames=4, sound_s=0.5, seed=number)
    video = make_random_languagebind(
        folder / "video", image_size=32, patch_size=16, hidden=32, layers=2, heads=2, frames=4, projection_dim=16
    )
    audio = make_random_whisper(folder / "audio", width=32, layers=1, heads=2, positions=50)
    extract(folder / "corpus", folder / "store", ExtractOptions(video, audio, device="cpu", workers=1))
    files = export_hdf5(make_store(folder / "toy", clips=40), folder / "h5")
    words = ["--video-encoder", str(video), "--audio-encoder", str(audio), "--device", "cpu"]
    place = Place(kit, folder / "q.json", folder / "media", folder / "corpus", folder / "store", files, folder, words)
    status, said = run([*bench(place), "--out", str(folder / "bench")], folder)
    assert status == 0, said
    return place


@pytest.fixture
def place(made, tmp_path) -> Iterator[Place]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", disk]
    if not Path("/bin/mount").exists() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk can't be mounted here; that needs root")
    yield Place(**{**vars(made), "disk": disk})
    subprocess.run(["umount", "-l", disk], check=True)


def bench(place: Place) -> list[str]:
    reads = ["--questions", str(place.questions), "--cache", str(place.kit.store), "--model", str(place.kit.model)]
    return ["bench", "emorealm", *reads, "--device", "cpu"]


def run(command: list[str], folder: Path) -> tuple[int, str]:
    """Run `avem` in a forked process: its exit status, which a crash makes negative, and all that it said."""
    child = os.fork()
    if child == 0:
        try:
            with (folder / ".said").open("wb") as said:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            sys.argv = ["avem", *command]
            main()
        except SystemExit as ended:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended.code if isinstance(ended.code, int) else 1)
        except BaseException:  # noqa: BLE001 - the forked process must not run the other tests
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), (folder / ".said").read_text()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(status: int, said: str) -> None:
    """One sentence, and nothing else that is wrong."""
    assert status == 2, said
    assert "Traceback" not in said
    sentences = [line for line in said.splitlines() if line.startswith("avem: ")]
    assert len(sentences) == 1, said
    assert "Errno" not in sentences[0]


def leave_room(disk: Path, pages: int) -> None:
    """Fill the disk up to some pages."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    state = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(state.f_bavail - pages, 1) * PAGE)


def suffers(place: Place, command: list[str], *, tmp_path: Path, enough: Callable[[], bool]) -> int:
    """Run a command on a read-only disk and on fuller and emptier ones; how often it ran out of room midway."""
    disk = place.disk
    before = files_of(disk)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    status, said = run(command, tmp_path)
    refused(status, said)
    assert "read-only" in said
    assert files_of(disk) == before
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    midway = 0
    for pages in ROOM:
        leave_room(disk, pages)
        status, said = run(command, tmp_path)
        if status == 0:
            break
        refused(status, said)
        assert any(advice in said for advice in ("make room", "on a larger disk")), said
        midway += pages > 0
        assert [path for path in disk.rglob("*") if path.name.endswith((".tmp", ".old"))] == []
    (disk / "filler").unlink()
    status, said = run(command, tmp_path)
    assert status == 0, said
    assert enough()
    return midway


def copied(source: Path, target: Path) -> Path:
    subprocess.run(["cp", "-r", source, target], check=True)
    return target


def test_extract(place, tmp_path):
    store = place.disk / "store"
    command = ["extract", str(place.corpus), "--cache", str(store), *place.encoders, "--workers", "1"]
    midway = suffers(place, command, tmp_path=tmp_path, enough=lambda: FeatureStore.open(store).verify() == [])
    assert midway >= 2
    arrays = {name: data for name, data in files_of(store).items() if "/features/c" in name}
    assert arrays == {name: data for name, data in files_of(place.store).items() if "/features/c" in name}


def test_export(place, tmp_path):
    command = ["cache", "export", str(place.disk / "out"), "--cache", str(place.hdf5[0].parent.parent / "toy")]
    whole = {path.name for path in place.hdf5}
    assert suffers(place, command, tmp_path=tmp_path, enough=lambda: whole <= files_of(place.disk / "out").keys()) >= 1


def test_import(place, tmp_path):
    store = place.disk / "store"
    command = ["cache", "import", *map(str, place.hdf5), "--cache", str(store)]
    assert suffers(place, command, tmp_path=tmp_path, enough=lambda: FeatureStore.open(store).verify() == []) >= 2


def test_negatives(place, tmp_path):
    store = copied(place.hdf5[0].parent.parent / "toy", place.disk / "store")
    mine_negatives(FeatureStore.open(store), k=1)
    old = FeatureStore.open(store).negatives("hard", "video").shape
    command = ["cache", "negatives", "--cache", str(store), "--k", "3"]
    again = FeatureStore.open(store)
    assert suffers(place, command, tmp_path=tmp_path, enough=lambda: FeatureStore.open(store).verify() == []) >= 1
    assert (old[1], again.negatives("hard", "video").shape[1]) == (1, 3)


def test_repair(place, tmp_path):
    store = copied(place.store, place.disk / "store")
    shard = next(path for path in sorted((store / "video").rglob("c*")) if path.is_file() and "features" in path.parts)
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    command = ["cache", "repair", "--cache", str(store), *place.encoders]
    assert suffers(place, command, tmp_path=tmp_path, enough=lambda: FeatureStore.open(store).verify() == []) >= 1


def test_train(place, tmp_path):
    out, kit = place.disk / "run", place.kit
    command = ["train", "--cache", str(kit.store), "--prefs", str(kit.prefs), "--model", str(kit.model)]
    command += ["--out", str(out), "--set", "device=cpu", "--set", "max_steps=2", "--set", "trackers=none"]
    assert suffers(place, command, tmp_path=tmp_path, enough=lambda: load_model(out / "final") is not None) >= 2
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_merge(place, tmp_path):
    command = ["models", "merge", str(place.kit.model), str(place.disk / "merged")]
    whole = place.kit.model
    midway = suffers(place, command, tmp_path=tmp_path, enough=lambda: load_model(place.disk / "merged") is not None)
    assert midway >= 1
    assert {path.name for path in whole.iterdir()} <= {path.name for path in (place.disk / "merged").iterdir()}


def test_bench_and_report(place, tmp_path):
    out = place.disk / "bench"
    result = read_result(next(place.result.glob("bench/**/result.json")))
    command = [*bench(place), "--out", str(out)]
    assert suffers(place, command, tmp_path=tmp_path, enough=lambda: len([*out.glob("**/result.json")]) == 1) >= 1
    assert read_result(next(out.glob("**/result.json"))).scores == result.scores
    lines = next(out.glob("**/answers.jsonl")).read_text().splitlines()
    assert len(lines) == len(set(lines))
    page = place.disk / "page.html"
    suffers(
        place,
        ["report", str(next(place.result.glob("bench/**/result.json"))), "--out", str(page)],
        tmp_path=tmp_path,
        enough=lambda: "</html>" in page.read_text(),
    )


def test_probe(place, tmp_path):
    out = place.disk / "probe"
    reads = ["--questions", str(place.questions), "--cache", str(place.kit.store), "--model", str(place.kit.model)]
    command = ["probe", "swap", *reads, "--device", "cpu", "--out", str(out)]
    assert suffers(place, command, tmp_path=tmp_path, enough=lambda: (out / "swap.html").is_file()) >= 1


def test_survey(place, tmp_path):
    out = place.disk / "survey"
    command = ["prefs", "survey", str(place.questions), "--media", str(place.media), "--out", str(out)]
    midway = suffers(place, command, tmp_path=tmp_path, enough=lambda: (out / "index.html").is_file())
    assert midway >= 1
    shown = {path.read_bytes() for path in (out / "media").rglob("*.mp4")}
    assert shown == {path.read_bytes() for path in place.media.iterdir()}
