"""The demo runs the whole chain, resumes after a kill, and makes the same numbers again."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from avem.cache import FeatureStore
from avem.cache.exchange.hdf5 import export_hdf5
from avem.cli import app
from avem.errors import SettingError
from avem.tools.ask.inputs import find_asked, find_clip
from avem.tools.ask.results import Condition
from avem.tools.ask.session import open_session
from avem.tools.ask.settings import AskOptions, check_options, with_kit
from avem.tools.demo.chain import KIT, DemoOptions, run_demo

OPTIONS = {"clips": 16, "seed": 3, "base_epochs": 1, "epochs": 1}
ARGUMENTS = ["--clips", "16", "--seed", "3", "--base-epochs", "1", "--epochs", "1"]


def command(out: Path) -> dict[str, Any]:
    """The demo as a user starts it; sums over threads depend on their number, so that is fixed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {"args": [sys.executable, "-m", "avem", "demo", "--out", str(out), *ARGUMENTS], "env": environment}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "demo"
    subprocess.run(**command(out), check=True, capture_output=True)
    return run_demo(DemoOptions(out=out, **OPTIONS))


def answers(folder: Path) -> dict[str, tuple[str, list[float]]]:
    """Of every model and question the letter chosen and the log-probabilities of the options."""
    return {
        f"{path.parent.name} {item['question']['id']}": (item["letter"], item["logprobs"])
        for path in sorted(folder.glob("bench/*/result.json"))
        for item in json.loads(path.read_text())["items"]
    }


def test_the_chain_ends_in_two_results_and_a_page(undisturbed):
    assert [result.name for result in undisturbed.results] == ["base", "avem-dpo"]
    assert "<html" in undisturbed.page.read_text()
    store = zarr.open(undisturbed.page.parent / "cache", mode="r")
    for kind, encoder in (("video", "languagebind-video"), ("audio", "whisper")):
        assert store[f"{kind}/{encoder}/features"].shape[0] == OPTIONS["clips"]
    trained_on = (undisturbed.page.parent / "preferences.jsonl").read_text().splitlines()
    assert {json.loads(row)["task"] for row in trained_on} == {"reasoning_stress_audio", "reasoning_stress_video"}
    assert "Does the model look for the cue?" in undisturbed.page.read_text()
    metrics = (undisturbed.page.parent / "runs" / "avem-dpo" / "metrics.jsonl").read_text().splitlines()
    assert {"loss", "margin", "reward_w"} <= json.loads(metrics[-1]).keys()


def test_the_store_opens_with_plain_zarr_and_after_export_with_h5py(undisturbed, tmp_path):
    cache = undisturbed.page.parent / "cache"
    export_hdf5(FeatureStore.open(cache), tmp_path)
    for kind, encoder in (("video", "languagebind-video"), ("audio", "whisper")):
        with h5py.File(tmp_path / f"{kind}.h5") as file:
            assert np.array_equal(file["features"][:], zarr.open(cache, mode="r")[f"{kind}/{encoder}/features"][:])


def test_a_finished_demo_computes_nothing_again(undisturbed):
    out = undisturbed.page.parent
    weights = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/final/*.safetensors")}
    again = run_demo(DemoOptions(out=out, **OPTIONS))
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    assert again.results[1].scores == undisturbed.results[1].scores


def test_the_demo_leaves_its_model_where_ask_finds_it(undisturbed, monkeypatch):
    """Its `ask.json` names the trained model, its encoders and the words of its corpus; the closing line is true."""
    out = undisturbed.page.parent
    monkeypatch.chdir(out.parent)
    options = with_kit(AskOptions(model=""))
    assert Path(options.model).resolve() == (out / "runs" / "avem-dpo" / "final").resolve()
    assert check_options(options) == options, "all of it is there"
    session = open_session(options)
    clip = find_clip(str(undisturbed.clip))
    found = session.ask(clip, [options.question])
    assert [each.question for each in found.answers] == [KIT["question"]]
    assert found.source == "from demo/cache", "the store holds the demo's test clips"
    vocabulary = set(session.model.tokenizer.get_vocab())
    for text in (options.question, options.emotion_question, options.emotion_answer.format("anger")):
        words = session.model.tokenizer.tokenize(text)
        assert "<unk>" not in words, f"{text!r} holds words that the demo's model does not know"
        assert set(words) <= vocabulary
    assert sum(found.emotions.shares(Condition.FULL)) == pytest.approx(1)


def test_the_closing_line_asks_about_a_test_clip(undisturbed, monkeypatch, capsys):
    out = undisturbed.page.parent
    monkeypatch.chdir(out.parent)
    monkeypatch.setattr("avem.tools.demo.chain.run_demo", lambda options: replace(undisturbed, page=options.out / "p"))
    for given, shown in (([], "ask "), (["--out", str(out)], "ask "), (["--out", "other"], "ask --model other ")):
        done = CliRunner().invoke(app, ["demo", *given])
        assert done.exit_code == 0, done.output
        last = done.output.splitlines()[-1]
        assert last.startswith(f"Ask it: avem {shown}")
        words = shlex.split(last.removeprefix("Ask it: "))
        asked = find_asked(words[4 if "--model" in words else 2 :])
        assert asked.clips[0].path.is_file()
        assert asked.questions == (KIT["question"],)


def test_other_settings_in_the_same_folder_are_refused(undisturbed):
    with pytest.raises(SettingError, match="other settings"):
        run_demo(DemoOptions(out=undisturbed.page.parent, **{**OPTIONS, "seed": 4}))


@pytest.mark.slow
def test_a_killed_demo_goes_on_to_the_same_answers(undisturbed, tmp_path):
    out = tmp_path / "demo"
    for marker, sent in (("cache/clips.parquet", signal.SIGKILL), ("runs/base/metrics.jsonl", signal.SIGINT)):
        process = subprocess.Popen(**command(out), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        deadline = time.monotonic() + 300
        while not (out / marker).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(sent)
        _, said = process.communicate(timeout=60)
        assert "Traceback" not in said
    subprocess.run(**command(out), check=True, capture_output=True)
    resumed, whole = answers(out), answers(undisturbed.page.parent)
    assert {name: answer[0] for name, answer in resumed.items()} == {name: answer[0] for name, answer in whole.items()}
    for name, (_, logprobs) in whole.items():  # some processors add in an order that depends on where memory lies
        assert resumed[name][1] == pytest.approx(logprobs, abs=0.01)
