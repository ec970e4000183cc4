"""Full and read-only disks, mounted for the purpose: one sentence, no crash, nothing half written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from avem.errors import WriteError
from avem.evaluate.predict.log import AnswerLog
from avem.files import replace_directory, write_atomic
from avem.guards.output_kinds import BENCH, MODEL
from avem.guards.outputs import folder_target
from tests.cache.helpers import make_store

SIZE = 64 << 10


@pytest.fixture
def disk(tmp_path):
    """A disk of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", place], capture_output=True, text=True)
        if Path("/bin/mount").exists()
        else None
    )
    if done is None or done.returncode:
        pytest.skip("a small disk can't be mounted here; that needs root")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_file_that_does_not_fit_leaves_the_old_one(disk):
    write_atomic(disk / "page", b"old")
    with pytest.raises(WriteError, match="page can't be written: the disk is full; make room"):
        write_atomic(disk / "page", bytes(2 * SIZE))
    assert (disk / "page").read_bytes() == b"old"
    assert [item.name for item in disk.iterdir()] == ["page"]


def test_a_model_that_does_not_fit_leaves_the_old_one(disk):
    import torch
    from safetensors.torch import save_file

    def fill(folder: Path, values: int) -> None:
        save_file({"x": torch.zeros(values)}, folder / "model.safetensors")

    def fill_torch(folder: Path) -> None:
        torch.save({"x": torch.zeros(SIZE)}, folder / "optimizer.pt")

    replace_directory(disk / "model", lambda folder: fill(folder, 1), MODEL)
    before = (disk / "model" / "model.safetensors").read_bytes()
    for fail in (lambda folder: fill(folder, SIZE), fill_torch):
        with pytest.raises(WriteError, match="model can't be written"):
            replace_directory(disk / "model", fail, MODEL)
    assert (disk / "model" / "model.safetensors").read_bytes() == before
    assert [item.name for item in disk.iterdir()] == ["model"]


def test_an_answer_that_does_not_fit_leaves_no_half_line(disk):
    with AnswerLog(disk / "answers.jsonl") as log:
        log.append({"a": {"id": "q"}})
        before = (disk / "answers.jsonl").read_bytes()
        with pytest.raises(WriteError, match="the disk is full"):
            log.append({"b": {"reply": "x" * 2 * SIZE}})
        assert (disk / "answers.jsonl").read_bytes() == before


def test_an_export_that_does_not_fit_is_one_sentence_and_no_crash(disk, tmp_path):
    make_store(tmp_path / "store", clips=400)
    done = subprocess.run(
        [sys.executable, "-m", "avem", "cache", "export", disk / "h5", "--cache", tmp_path / "store"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "can't be written: the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(disk.iterdir()) == []


def test_full_and_read_only_disks_are_known_before_any_work(disk):
    with pytest.raises(OSError, match="No space"):
        (disk / "filler").write_bytes(bytes(2 * SIZE))
    with pytest.raises(WriteError, match="the disk is full"):
        folder_target(disk / "new", BENCH)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(WriteError, match="the disk is read-only"):
        folder_target(disk / "new" / "deep", BENCH)
