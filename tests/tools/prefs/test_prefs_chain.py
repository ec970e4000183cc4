"""What the pipeline makes is what the rest of avem takes: rows train, questions bench, and the two share no clip."""

from __future__ import annotations

import json
import math

from avem.cache import FeatureStore, mine_negatives
from avem.evaluate import bench_emorealm, emorealm
from avem.extract import ExtractOptions, extract
from avem.tools.demo.models import make_encoders, make_untrained
from avem.tools.prefs.checks.validate import validate
from avem.tools.project.standin.server import StandIn
from avem.train import load_model
from avem.train.data.rows import read_preferences
from avem.train.preference import train_preferences
from avem.train.settings.config import PreferenceConfig


def test_the_corpus_goes_through_the_pipeline_and_its_result_validates_trains_and_benches(
    run, corpus, scenes, tmp_path
):
    with StandIn(scenes) as standin:
        prefs = run(standin, split="train", out=tmp_path / "prefs").out / "preferences.jsonl"
        benchmark = run(standin, kind="emorealm", split="test", out=tmp_path / "bench").out / "emorealm_v1.json"
    video, audio = make_encoders(tmp_path / "encoders")
    extract(corpus.root, tmp_path / "cache", ExtractOptions(video_encoder=video, audio_encoder=audio, workers=1))
    store = FeatureStore.open(tmp_path / "cache")
    report = validate(prefs, [benchmark], [tmp_path / "cache"])
    assert report.errors == 0, report.faults
    mine_negatives(store, recipe="hard", k=2, seed=0)
    rows = read_preferences(prefs)
    make_untrained([], rows, store, 0).save(tmp_path / "base")
    trained = train_preferences(
        PreferenceConfig(
            cache=tmp_path / "cache",
            model=str(tmp_path / "base"),
            out=tmp_path / "run",
            prefs=prefs,
            device="cpu",
            learning_rate=1e-3,
            batch_size=8,
            accumulation=1,
            max_steps=4,
        )
    )
    steps = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) >= 3
    assert all(math.isfinite(step["loss"]) for step in steps)
    questions = emorealm.read_questions(benchmark)
    model = load_model(trained / "final", device="cpu")
    result = bench_emorealm(model, store, questions, "cloze", generate=False, text_only=False)
    assert [item.question.id for item in result.items] == [question.id for question in questions]
    assert not any(item.absent for item in result.items)
    assert result.score["n"] == len(questions)


def test_a_benchmark_of_the_same_clips_is_found_out(run, scenes, tmp_path):
    small = {"limit": 6, "tasks": ("modality_agreement",)}
    with StandIn(scenes) as standin:
        prefs = run(standin, out=tmp_path / "prefs", **small).out / "preferences.jsonl"
        benchmark = run(standin, kind="emorealm", out=tmp_path / "bench", **small).out / "emorealm_v1.json"
    faults = validate(prefs, [benchmark]).faults
    leaks = [fault.message for fault in faults if fault.kind == "leak"]
    asked = {question.extra["clip_id"] for question in emorealm.read_questions(benchmark)}
    shared = {row.clip_id for row in read_preferences(prefs)} & asked
    assert len(leaks) == len(shared) > 0
