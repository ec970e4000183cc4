"""A small folder of everything that avem reads, and the commands that read it; each command ends well in it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.command_kit import run
from tests.train.training_kit import make_kit

SETTINGS = ("max_steps=2", "batch_size=4", "trackers=none", "device=cpu", "reliance_rows=0", "tokens_per_batch=4000")
TRAIN = ["train", "--cache", "cache", "--model", "model", "--prefs", "prefs.jsonl"]
SET = [part for setting in SETTINGS for part in ("--set", setting)]
QUESTIONS = [
    {
        "id": f"q{number}",
        "video": f"{number:03d}.mp4",
        "task": "reasoning_basic_video",
        "question": "What?",
        "choices": ["(A) a smile", "(B) tears"],
        "answer": "A",
    }
    for number in range(4)
]
VOTES = ["prefs", "votes", "survey", "votes.json"]
REPORT = ["report", "result.json", "run", "--out", "page.html"]
COMMANDS: dict[str, list[list[str]]] = {
    "cache/zarr.json": [["cache", "info", "--cache", "cache"], ["cache", "list", "--cache", "cache"]],
    "cache/*": [["cache", "verify", "--cache", "cache"], ["cache", "export", "out", "--cache", "cache"]],
    "cache/negatives/*": [[*TRAIN, "--out", "out", *SET]],
    "prefs.jsonl": [["prefs", "validate", "prefs.jsonl"], [*TRAIN, "--out", "out", "--dry-run", *SET]],
    "rows.jsonl": [
        ["train", "--stage", "sft", "--cache", "cache", "--model", "model", "--data", "rows.jsonl", "--out", "out",
         "--dry-run", *SET],
    ],
    "settings.toml": [["train", "--config", "settings.toml", "--dry-run", "--out", "out"]],
    "model/*": [[*TRAIN, "--out", "out", "--dry-run", *SET], ["models", "merge", "run/final", "out"]],
    "run/config.json": [[*TRAIN, "--out", "run", *SET], REPORT],
    "run/metrics.*": [[*TRAIN, "--out", "run", *SET], REPORT],
    "run/checkpoints/*": [[*TRAIN, "--out", "run", *SET]],
    "run/final/*": [["models", "merge", "run/final", "out"]],
    "h5/*": [["cache", "import", "h5/video.h5", "--cache", "new"]],
    "npy/*": [["cache", "import", "--video-npy", "npy", "--labels", "labels.csv", "--cache", "new"]],
    "labels.csv": [["cache", "import", "--video-npy", "npy", "--labels", "labels.csv", "--cache", "new"]],
    "questions.json": [
        ["bench", "emorealm", "--answers", "answers.json", "--questions", "questions.json", "--out", "out"],
        ["prefs", "survey", "questions.json", "--out", "out"],
    ],
    "answers.json": [
        ["bench", "emorealm", "--answers", "answers.json", "--questions", "questions.json", "--out", "out"]
    ],
    "result.json": [REPORT],
    "survey/key.json": [VOTES],
    "votes.json": [VOTES],
}  # fmt: skip
"""Which commands read the files of a pattern, in the order in which they are tried."""


def make_world(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Write everything; what avem writes is written by its commands."""
    monkeypatch.chdir(folder)
    make_kit(folder)
    shutil.rmtree(folder / "cache" / "negatives")  # the kit's own do not say how they were mined
    mine = ["cache", "negatives", "--cache", "cache", "--k", "2"]
    for arguments in (mine, [*TRAIN, "--out", "run", *SET], ["cache", "export", "h5", "--cache", "cache"]):
        status, shown = run(arguments, monkeypatch, capsys)
        assert status == 0, shown
    (folder / "npy").mkdir()
    for number in range(3):
        np.save(folder / "npy" / f"{number}.npy", np.full((4, 3, 5), number, dtype=np.float16))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("clip_id", "emotion"), ("0", "anger"), ("1", "fear"), ("2", "sadness")])
    (folder / "questions.json").write_text(json.dumps(QUESTIONS))
    (folder / "answers.json").write_text(json.dumps({question["id"]: "A" for question in QUESTIONS}))
    (folder / "settings.toml").write_text(
        'cache = "cache"\nmodel = "model"\nprefs = "prefs.jsonl"\nmax_steps = 1\ndevice = "cpu"\n'
    )
    made = (
        ["bench", "emorealm", "--answers", "answers.json", "--questions", "questions.json", "--out", "bench"],
        ["prefs", "survey", "questions.json", "--out", "survey"],
    )
    for arguments in made:
        status, shown = run(arguments, monkeypatch, capsys)
        assert status == 0, shown
    shutil.copy(next((folder / "bench").rglob("result.json")), folder)
    key = json.loads((folder / "survey" / "key.json").read_text())
    answers = {item["id"]: {"choice": 0} for item in key["items"]}
    (folder / "votes.json").write_text(json.dumps({"survey": key["survey"], "annotator": "ann", "answers": answers}))
