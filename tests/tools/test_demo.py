"""The demo runs the whole chain, goes on where it was killed, and makes the same numbers again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zarr

from avem.errors import SettingError
from avem.tools.demo.chain import DemoOptions, run_demo

OPTIONS = {"clips": 16, "seed": 3, "base_epochs": 1, "epochs": 1}
ARGUMENTS = ["--clips", "16", "--seed", "3", "--base-epochs", "1", "--epochs", "1"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run_demo(DemoOptions(out=tmp_path_factory.mktemp("demo") / "demo", **OPTIONS))


def outcomes(folder: Path) -> dict[str, object]:
    results = sorted(folder.glob("bench/*/result.json"))
    return {path.parent.name: json.loads(path.read_text())["items"] for path in results}


def test_the_chain_ends_in_two_results_and_a_page(undisturbed):
    assert [result.name for result in undisturbed.results] == ["base", "avem-dpo"]
    assert "<html" in undisturbed.page.read_text()
    store = zarr.open(undisturbed.page.parent / "cache", mode="r")
    for kind, encoder in (("video", "languagebind-video"), ("audio", "whisper")):
        assert store[f"{kind}/{encoder}/features"].shape[0] == OPTIONS["clips"]
    metrics = (undisturbed.page.parent / "runs" / "avem-dpo" / "metrics.jsonl").read_text().splitlines()
    assert {"loss", "margin", "reward_w"} <= json.loads(metrics[-1]).keys()


def test_a_finished_demo_computes_nothing_again(undisturbed):
    out = undisturbed.page.parent
    weights = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/final/*.safetensors")}
    again = run_demo(DemoOptions(out=out, **OPTIONS))
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    assert again.results[1].scores == undisturbed.results[1].scores


def test_other_settings_in_the_same_folder_are_refused(undisturbed):
    with pytest.raises(SettingError, match="other settings"):
        run_demo(DemoOptions(out=undisturbed.page.parent, **{**OPTIONS, "seed": 4}))


@pytest.mark.slow
def test_a_killed_demo_goes_on_to_the_same_answers(undisturbed, tmp_path):
    out = tmp_path / "demo"
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # sums over threads depend on their number
    command = [sys.executable, "-m", "avem", "demo", "--out", str(out), *ARGUMENTS]
    for marker, sent in (("cache/clips.parquet", signal.SIGKILL), ("runs/base/metrics.jsonl", signal.SIGINT)):
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=one_thread
        )
        deadline = time.monotonic() + 300
        while not (out / marker).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(sent)
        _, said = process.communicate(timeout=60)
        assert "Traceback" not in said
    subprocess.run(command, check=True, capture_output=True, env=one_thread)
    assert outcomes(out) == outcomes(undisturbed.page.parent)
