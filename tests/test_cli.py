"""The command line: a fault that a user can mend is one sentence and an exit status, never a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "avem", *arguments], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def work(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("not a store")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sing"], "No such command"),
        (["extract", "nowhere"], "nowhere"),
        (["extract", "empty"], "No dataset is recognised"),
        (["train"], "preferences.jsonl"),
        (["bench", "emorealm"], "emorealm_v1.json"),
        (["cache", "verify", "--cache", "notes"], "notes"),
        (["cache", "info"], "cache"),
        (["cache", "negatives", "--cache", "empty"], "empty"),
        (["demo", "--out", "notes"], "notes"),
        (["demo", "corpus", "notes"], "notes"),
        (["demo", "corpus", "new", "--clips", "2"], "--clips"),
        (["report", "nowhere.json"], "nowhere.json"),
    ],
)
def test_a_users_fault_is_one_sentence_and_status_2(work, arguments, said):
    before = sorted(work.rglob("*"))
    done = run(*arguments, folder=work)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(work.rglob("*")) == before


def test_help_lists_every_command(work):
    done = run("--help", folder=work)
    assert done.returncode == 0
    for command in ("extract", "cache", "train", "bench", "report", "demo"):
        assert command in done.stdout


def test_importing_avem_loads_no_heavy_library(work):
    heavy = ("torch", "transformers", "faiss", "numpy", "pyarrow", "http.client")
    code = f"import sys, avem, avem.cli; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=work).returncode == 0
