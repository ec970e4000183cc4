"""Table 2 as a sweep: recognition on the sets that the store holds, with and without subtitles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avem.cache import ClipRecord, RowDetails, StoreWriter, StreamSpec
from avem.cache.manifest.subtitles import Subtitle
from avem.files import write_json_lines
from avem.tools.sweep import sets as sweep_sets
from avem.tools.sweep.grid import read_grid
from avem.tools.sweep.outcome import make_sheet
from avem.tools.sweep.run import SweepOptions, run_sweep
from tests.train.model_kit import AUDIO_WIDTH, VIDEO_WIDTH, tiny_model
from tests.train.training_kit import negatives, preference_rows, write_negatives

GRID = """
title = "Table 2, small"
columns = ["dfew_uar", "dfew_war", "ravdess_uar", "ravdess_war", "mer2023_f1"]
seeds = [0]
settings = { max_steps = 1, batch_size = 4, accumulation = 1, trackers = "none", reliance_rows = 0 }
[base]
paper = [56.78, 60.14, 53.59, 53.01, 89.19]
[[runs]]
name = "AVEm-DPO"
paper = [58.54, 64.24, 58.66, 55.48, 92.18]
"""


@pytest.fixture
def store(tmp_path) -> Path:
    """Eight clips to train on, and four each in the names of DFEW and RAVDESS."""
    path, emotions = tmp_path / "cache", ("happiness", "sadness", "anger")
    records = [
        ClipRecord(f"{name}/{n:03d}", name, f"{name}/{n:03d}.mp4", f"{number:032x}{n:032x}", emotion=emotions[n % 3])
        for number, (name, count) in enumerate((("toy", 8), ("dfew", 4), ("ravdess", 4)))
        for n in range(count)
    ]
    writer = StoreWriter.open(path)
    writer.add_clips(records, tmp_path)
    for kind, shape in (("video", (4, 3, VIDEO_WIDTH)), ("audio", (23, AUDIO_WIDTH))):
        stream = writer.stream(StreamSpec(kind, f"tiny-{kind}", {"kind": kind}, shape, 5))
        for shard in stream.pending():
            rng = np.random.default_rng([len(kind), shard.index])
            arrays = rng.normal(size=(len(shard.rows), *shape)), rng.normal(size=(len(shard.rows), 5))
            stream.write(shard, *arrays, [RowDetails()] * len(shard.rows))
    writer.finish()
    writer.enter_subtitles({"dfew/000": Subtitle("No!", "srt"), "toy/000": Subtitle("Yes!", "srt")})
    for modality in ("audio", "video", "audiovisual"):
        table = np.full((len(records), 2), -1, dtype=np.int32)
        table[:8] = negatives("audio")
        table[7] = (0, 1)
        write_negatives(path, "hard", modality, table)
    return path


def test_sets_are_evaluated_once_and_those_without_clips_are_named(store, tmp_path, monkeypatch):
    sizes = {"video_projector": "linear", "audio_projector": "stack-mlp"}
    tiny_model(**sizes).float().save(tmp_path / "model")
    write_json_lines(tmp_path / "prefs.jsonl", [row.to_json() for row in preference_rows() if "007" not in row.clip_id])
    (tmp_path / "small.toml").write_text(GRID)
    grid = read_grid(str(tmp_path / "small.toml"))
    paths = {"cache": store, "prefs": tmp_path / "prefs.jsonl", "model": str(tmp_path / "model")}
    opened = []
    real = sweep_sets.open_model
    monkeypatch.setattr(sweep_sets, "open_model", lambda *given: (opened.append(given), real(*given))[1])

    def run(**more):
        return run_sweep(grid, SweepOptions(**paths, out=tmp_path / "sweep", device="cpu", **more))

    results = run()
    assert [result.run for result in results] == ["base", "AVEm-DPO"]
    for result in results:
        assert {name for name in result.measures if "_uar" in name or "_war" in name} == {
            "dfew_uar",
            "dfew_war",
            "ravdess_uar",
            "ravdess_war",
        }
        assert all(0 <= result.measures[name] <= 100 for name in ("dfew_uar", "ravdess_war"))
    assert run() == results
    assert len(opened) == 2, "what was measured is not measured again"
    sheet = make_sheet(grid, results)
    assert sheet.note == "MER2023 F1: the store holds no clips of these sets; `avem extract` adds them."
    assert sheet.rows[0][sheet.header.index("paper: DFEW WAR")] == "60.14"
    said = run(settings={"subtitles": True})
    assert len(opened) == 4
    assert [result.folder.name for result in said] == ["base-subtitles", "bench"]
    assert said[1].folder != results[1].folder
    StoreWriter.open(store).enter_subtitles({"dfew/000": Subtitle("Never!", "srt")})
    run()
    assert len(opened) == 4, "without subtitles nothing changed"
