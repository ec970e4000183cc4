"""Broken files of the kinds that avem reads, given to the commands that read them."""

from __future__ import annotations

import json
import os
import random
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from openpyxl import Workbook

from tests.fuzz.command_kit import NODES, check, run
from tests.fuzz.mutations import MUTATIONS
from tests.train.training_kit import preference_rows

QUESTION = {
    "id": "q1", "video": "a.mp4", "task": "reasoning_basic_video", "question": "What?",
    "choices": ["(A) a smile", "(B) tears"], "answer": "A",
}  # fmt: skip
KEY = {
    "survey": "s", "source": "q.json",
    "items": [{"id": "q1", "group": "g", "expected": 0, "attention": False, "source": "q1"}],
}  # fmt: skip
VOTES = {"survey": "s", "annotator": "ann", "answers": {"q1": {"choice": 0}}}
RESULT = {"format": 1, "name": "m", "benchmark": "b", "style": "letters", "model": "m", "store": "s", "scores": {}}


def _bytes(value: object) -> bytes:
    return json.dumps(value).encode()


def _xlsx(path: Path) -> bytes:
    book = Workbook()
    book.active.append(["order", "label"])
    book.active.append([1, 2])
    book.save(path)
    return path.read_bytes()


ROWS = b"".join(_bytes(row.to_json()) + b"\n" for row in preference_rows()[:3])
KINDS: dict[str, tuple[str, bytes, list[str]]] = {
    "preference rows": ("rows.jsonl", ROWS, ["prefs", "validate", "rows.jsonl"]),
    "rows to convert": ("rows.jsonl", ROWS, ["prefs", "convert", "rows.jsonl", "--to", "trl", "--out", "o.jsonl"]),
    "reference rows": ("rows.json", _bytes([QUESTION]), ["prefs", "validate", "rows.json"]),
    "benchmark": ("q.json", _bytes([QUESTION]), ["prefs", "survey", "q.json", "--out", "page"]),
    "survey key": ("s/key.json", _bytes(KEY), ["prefs", "votes", "s", "v.json"]),
    "votes": ("v.json", _bytes(VOTES), ["prefs", "votes", "s", "v.json"]),
    "bench result": ("r.json", _bytes(RESULT), ["report", "r.json", "--out", "p.html"]),
    "metrics": ("run/metrics.jsonl", b'{"step": 1, "loss": 0.5}\n', ["report", "run", "--out", "p.html"]),
    "run settings": ("run/config.json", _bytes({"settings": {"seed": 1}}), ["report", "run", "--out", "p.html"]),
    "settings": ("c.toml", b"seed = 1\nlearning_rate = 0.1\n", ["train", "--config", "c.toml", "--dry-run"]),
    "clips table": ("d/clips.csv", b"path,emotion\na.mp4,happy\n", ["extract", "d", "--dry-run"]),
    "store": (
        "cache/zarr.json",
        _bytes({"attributes": {"avem": {"format": 1}}}),
        ["cache", "info", "--cache", "cache"],
    ),
    "HDF5": ("x.h5", b"\x89HDF\r\n\x1a\n" + bytes(200), ["cache", "import", "x.h5", "--cache", "new"]),
    "subtasks": (
        "subtasks.jsonl",
        b'{"id": "q1", "subtask": "spurious"}\n',
        ["bench", "emorealm", "--questions", "q.json", "--answers", "a.json", "--subtasks", "subtasks.jsonl"],
    ),
    "answers": ("a.json", b'{"q1": "(A)"}', ["bench", "emorealm", "--questions", "q.json", "--answers", "a.json"]),
    "result by group": ("r.json", _bytes(RESULT), ["bench", "groups", "r.json", "--by", "language"]),
    "descriptions": ("one.json", b'{"a": "He smiles."}', ["study", "make", "one.json", "two.json", "--out", "study"]),
    "pre-test": (
        "test.jsonl",
        b'{"question": "Q?", "choices": ["a", "b"], "answer": 1}\n',
        ["prefs", "survey", "q.json", "--out", "page", "--pretest", "test.jsonl"],
    ),
    "subtitles": (
        "subtitles.csv",
        b"video,subtitle\na.mp4,Come here.\n",
        ["prefs", "survey", "q.json", "--out", "page", "--subtitles", "subtitles.csv"],
    ),
    "languages": (
        "languages.csv",
        b"video,language\na.mp4,en\n",
        ["emorealm", "stats", "--questions", "q.json", "--languages", "languages.csv", "--out", "stats"],
    ),
    "EMER": (
        "EMER.csv",
        b"name,reason\na,He smiles.\n",
        [
            "bench",
            "emer",
            "--references",
            "EMER.csv",
            "--answers",
            "one.json",
            "--judge",
            "j",
            "--endpoint",
            "http://localhost:1/v1",
            "--dry-run",
        ],
    ),
    "other descriptions": ("two.json", b'{"a": "He grins."}', ["study", "make", "one.json", "two.json", "--out", "s2"]),
    "grid": ("g.toml", b'[[runs]]\nname = "a"\n', ["sweep", "g.toml"]),
}


def _lay(folder: Path) -> None:
    """Valid files of every kind, for what reads more than one."""
    for name, data, _ in KINDS.values():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_file_is_one_sentence(kind, tmp_path, monkeypatch, capsys, fuzz_cases):
    name, data, arguments = KINDS[kind]
    rng = random.Random(f"{kind} {os.environ.get('AVEM_FUZZ_SEED', '0')}")
    faults = []
    for case in range(fuzz_cases):
        folder = tmp_path / str(case)
        _lay(folder)
        monkeypatch.chdir(folder)
        broken, path = rng.choice(MUTATIONS)(data, rng), folder / name
        path.write_bytes(broken)
        try:
            check(*run(arguments, monkeypatch, capsys))
        except BaseException as error:  # every fault of a kind is shown at once  # noqa: BLE001
            faults.append(f"case {case} {broken[:120]!r}: {type(error).__name__} {str(error)[:200]}")
        assert path.read_bytes() == broken
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("node", NODES)
def test_something_else_than_a_file_is_one_sentence(kind, node, tmp_path, monkeypatch, capsys):
    name, _, arguments = KINDS[kind]
    _lay(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).unlink()
    NODES[node](tmp_path / name)
    check(*run(arguments, monkeypatch, capsys))


@pytest.mark.parametrize("value", ["9" * 20, "9" * 5000, "nan", "inf", "1e400", "", "[" * 3000, "[1]", "{}", "\x00"])
def test_an_odd_setting_is_one_sentence(value, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    check(*run(["train", "--dry-run", "--set", f"seed={value}"], monkeypatch, capsys))


def test_what_only_looks_like_an_excel_file_is_named(tmp_path):
    from avem.errors import DataError
    from avem.extract.datasets.tables import read_grid

    data, rng = _xlsx(tmp_path / "good.xlsx"), random.Random(0)
    for mutate in MUTATIONS[2:]:
        path = tmp_path / "bad.xlsx"
        path.write_bytes(mutate(data, rng))
        with suppress(DataError):  # a mutation may leave the table readable; any other error fails
            read_grid(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<")
    with pytest.raises(DataError, match=r"bad\.xlsx"):
        read_grid(path)
