"""The proof as a whole, small: made from nothing, gone on with, refused, and shown again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pytest
from typer.testing import CliRunner

from avem.cache import FeatureStore
from avem.cli import app
from avem.errors import DataError, MissingFileError, SettingError
from avem.records import Modality
from avem.tools.project.proof import run as proof_run
from avem.tools.project.proof import trials
from avem.tools.project.proof.claims import probe_claims
from avem.tools.project.proof.evaluation import evaluate_record
from avem.tools.project.proof.ground.making import BaseKind, Rows
from avem.tools.project.proof.ground.scenes import Split, draw_splits
from avem.tools.project.proof.ground.shared import share_ground
from avem.tools.project.proof.plan import Point
from avem.tools.project.proof.results.probing import PROBES
from avem.tools.project.proof.results.record import Record
from avem.tools.project.proof.run import (
    PROBED,
    ProofOptions,
    choose_released_settings,
    choose_settings,
    run_proof,
    run_released,
    trace_curves,
)
from avem.tools.project.proof.tables import make_sheets
from avem.tools.sweep.grid import read_grid


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> ProofOptions:
    splits = {"base": Split(28, 4), "preference": Split(28, 4), "validation": Split(14, 2), "test": Split(28, 4)}
    short = {
        "max_steps": 1,
        "epochs": 1,
        "batch_size": 16,
        "reliance_rows": 0,
        "trackers": "none",
        "average_checkpoints": 0,
    }
    return ProofOptions(
        out=tmp_path_factory.mktemp("proof") / "proof",
        seeds=(0, 1),
        only=("w/o PMP",),
        workers=1,
        splits=splits,
        teaching=Split(64, 8),
        base_settings=short,
        settings=short,
        rows=Rows("reasons", 28),
    )


def test_negatives_show_another_emotion_in_what_they_replace(small):
    run_proof(small)
    scenes = {scene.clip_id: scene for scene in draw_splits(small.splits, 0)}
    store = FeatureStore.open(small.out / "cache")
    names = store.clips["clip_id"].to_pylist()
    pairs = 0
    for modality, sides in (("audio", ["audio"]), ("video", ["visual"]), ("audiovisual", ["audio", "visual"])):
        for row, others in enumerate(store.negatives("hard", modality).tolist()):
            for other in filter(lambda place: place >= 0, others):
                pairs += 1
                for side in map(Modality, sides):
                    assert scenes[names[row]].shown(side) != scenes[names[other]].shown(side)
    assert pairs > 200


def test_one_row_of_a_table_is_made_from_nothing_and_found_again(small):
    sheets = run_proof(small)
    assert [row[0] for row in sheets["table5"].rows] == ["base", "w/o PMP"]
    record = Record.read(small.out / "some.json")
    assert {run: set(own) for run, own in record.right.items()} == {"base": {0, 1}, "w/o PMP": {0, 1}}
    assert record.about["cost"]["w/o PMP"]["0"]["constants"] > 0
    assert (small.out / "ground.json").is_file()  # under another name than the results of a whole proof
    assert not (small.out / "proof.json").exists()
    assert "w/o PMP" in (small.out / "some.html").read_text()
    made = {path: path.stat().st_mtime_ns for path in small.out.rglob("final/*")}
    assert run_proof(small) == sheets
    assert {path: path.stat().st_mtime_ns for path in small.out.rglob("final/*")} == made


def test_all_runs_start_from_one_base_and_some_from_another(small):
    run_proof(replace(small, only=("w/o PMP", "w/o PMP, base 1"), seeds=(0,)))
    record = Record.read(small.out / "some.json")
    assert {run: set(own) for run, own in record.right.items()} == {
        "base": {0},
        "w/o PMP": {0},
        "base, base 1": {0},
        "w/o PMP, base 1": {0},
    }
    starts = {
        path.parent.parent.parent.name: json.loads(path.read_text())
        for path in small.out.glob("runs/*/runs/*/config.json")
    }
    assert {name: Path(found["settings"]["model"]).parent.name for name, found in starts.items()} == {
        "base-0": "0",
        "base-1": "1",
    }
    claim = "Modality preference (PMP) helps"
    assert claim not in {row[0] for row in make_sheets(evaluate_record(record))["claims"].rows}  # AVEm-DPO was not run


def test_runs_that_are_known_are_not_made_again(small, tmp_path):
    first = replace(small, out=tmp_path / "first", seeds=(0,))
    run_proof(first)
    second = replace(small, out=tmp_path / "second", known=tmp_path / "first" / "some.json")
    run_proof(second)
    assert [path.name[-15:-9] for path in (tmp_path / "second" / "runs" / "base-0" / "runs").iterdir()] == ["seed=1"]
    joined = Record.read(tmp_path / "second" / "some.json")
    assert {run: set(own) for run, own in joined.right.items()} == {"base": {0, 1}, "w/o PMP": {0, 1}}
    assert set(joined.about["cost"]["w/o PMP"]) == {"0", "1"}
    run_proof(replace(second, seeds=(0,)))  # nothing is left to do, and the base shows that the ground is the same
    run_proof(replace(second, only=("order of seed 1",), seeds=(0,)))  # of a grid without a base
    joined = Record.read(tmp_path / "second" / "some.json")
    assert {run: set(own) for run, own in joined.right.items()} == {
        "base": {0},
        "order of seed 1": {0},
        "w/o PMP": {0},
    }
    made = set((tmp_path / "second" / "runs").rglob("config.json"))
    changed = replace(second, settings={**small.settings, "beta": 1.0}, only=("order of seed 1",))
    with pytest.raises(DataError, match="have other settings"):
        run_proof(changed)
    assert set((tmp_path / "second" / "runs").rglob("config.json")) == made  # it was refused before its runs
    with pytest.raises(DataError, match="have other settings"):
        run_proof(replace(changed, out=tmp_path / "third"))
    assert not (tmp_path / "third" / "corpus").exists(), "it was refused before its ground"


def test_rows_of_another_form_have_runs_and_results_of_their_own(small):
    run_proof(replace(small, seeds=(0,)))
    before = {path: path.read_bytes() for path in small.out.glob("some.*")}
    run_proof(replace(small, seeds=(0,), rows=Rows("verdicts", 28)))
    assert {path: path.read_bytes() for path in small.out.glob("some.*")} == before
    assert Record.read(small.out / "some-verdicts.json").about["settings"]["rows"]["form"] == "verdicts"
    trained = [
        json.loads(path.read_text())["settings"]["prefs"] for path in small.out.rglob("runs*/*/runs/*/config.json")
    ]
    assert {Path(prefs).name for prefs in trained} == {"reasons-28.jsonl", "verdicts-28.jsonl"}


def test_curves_are_traced_on_the_validation_clips(small, monkeypatch):
    points = (
        Point("clips", "14", Rows("reasons", 14)),
        Point("clips", "28", Rows("reasons", 28)),
        Point("clips", "35", Rows("reasons", 35)),
        Point("form", "verdicts", Rows("verdicts", 28), {"rejected": "each"}),
        Point("width", "96", Rows("reasons", 28), base=BaseKind(width=96)),
    )
    monkeypatch.setattr(proof_run, "CURVES", points)
    sheet = trace_curves(replace(small, only=()))
    asked_for = [("clips", "14"), ("clips", "28"), ("clips", "35"), ("form", "verdicts"), ("width", "96")]
    assert [row[:2] for row in sheet.rows] == asked_for
    kept = json.loads((small.out / "curves.json").read_text())["points"]
    assert [one["value"] for one in kept] == ["14", "28", "35", "verdicts", "96"]
    asked = json.loads((small.out / "corpus" / "validation.json").read_text())
    answered = next((small.out / "curves").rglob("base/answers.jsonl")).read_text()
    assert json.loads(answered.splitlines()[-1])["id"] in {question["id"] for question in asked}
    narrow = json.loads((small.out / "bases" / "0-width-96" / "final" / "language_model" / "config.json").read_text())
    assert narrow["hidden_size"] == 96
    assert kept[0]["base_auc_spurious"] == kept[2]["base_auc_spurious"] != kept[4]["base_auc_spurious"]
    more, usual = small.out / "clips-35" / "rows" / "reasons-35.jsonl", small.out / "rows" / "reasons-28.jsonl"
    assert more.read_text().startswith(usual.read_text())
    assert len({json.loads(line)["clip_id"] for line in more.read_text().splitlines()}) == 35
    assert [row[:2] for row in run_proof(replace(small, seeds=(0,)))["curves"].rows] == [row[:2] for row in sheet.rows]
    with pytest.raises(SettingError, match="29 preference clips are asked for, and the corpus has 28"):
        proof_run.make_ground(small.out, small.splits, small.teaching, (0,), small.base_settings, 1).preferences(
            Rows("reasons", 29)
        )


def test_some_runs_are_probed_and_one_reads_features_of_8_bits(small, monkeypatch, tmp_path):
    monkeypatch.setattr(proof_run, "PROBED", {**dict.fromkeys(PROBED, (0, 1, 2)), "w/o PMP": (0, 1)})
    options = replace(small, only=("AVEm-DPO", "w/o PMP", "Vista-DPO", "int8 features"), seeds=(0, 1, 2))
    sheets = run_proof(options)
    assert [row[0] for row in sheets["storage"].rows] == ["float16 features", "int8 features"]
    scales = {"cache": 0, "cache-int8": 2}  # of video and audio, where values are kept in 8 bits
    assert {name: len(list((small.out / name).rglob("*scale/zarr.json"))) for name in scales} == scales
    assert sheets["probes"].header == ("measured", *PROBED)
    about = Record.read(small.out / "some.json").about
    for run in PROBED:
        assert about["probes"][run].keys() == PROBES.keys()
        assert 0 < about["probes"][run]["attention_media"][0] < 100
        assert 0 <= about["probes"][run]["attention_even"][0] <= 100
    assert len(about["probed"]) == len(probe_claims())
    before = {path: path.stat().st_mtime_ns for path in small.out.rglob("probes.npz")}
    assert len(before) == 3 + 2 + 3 + 1  # the base is one for all seeds
    run_proof(replace(options, settings={**small.settings, "beta": 1.0}))  # other runs: they have probes of their own
    after = {path: path.stat().st_mtime_ns for path in small.out.rglob("probes.npz")}
    assert len(after) == 2 * (3 + 2 + 3) + 1
    assert before.items() <= after.items()

    known = tmp_path / "known.json"
    whole = Record.read(small.out / "some.json")
    right, odds = (
        {run: own for run, own in kept.items() if run != "int8 features"} for kept in (whole.right, whole.odds)
    )
    Record(whole.clips, whole.questions, right, odds, whole.about).write(known)
    later = replace(options, only=("int8 features",), settings={**small.settings, "beta": 1.0}, known=known)
    claims = [row[0] for row in run_proof(later)["claims"].rows]
    assert "Features in 8 bits: the same result" in claims, "they are compared with the AVEm-DPO that is known"


def test_candidates_are_tried_on_the_validation_clips(small, monkeypatch):
    grid = read_grid("settings")
    monkeypatch.setattr(trials, "read_grid", lambda name: replace(grid, runs=grid.runs[:1]))
    sheet = choose_settings(small)
    kept = json.loads((small.out / "settings.json").read_text())
    tried = kept["tried"]
    assert [(one["run"], one["seed"]) for one in tried] == [("base", 0), (grid.runs[0].name, 0), (grid.runs[0].name, 1)]
    assert [row[:2] for row in sheet.rows] == [("base", "1"), (grid.runs[0].name, "2")]
    mean, spread = fmean([one["stress"] for one in tried[1:]]), stdev([one["stress"] for one in tried[1:]])
    assert sheet.rows[1][sheet.header.index("Stress F1")] == f"{mean:.1f} ± {spread:.1f}"
    asked = json.loads((small.out / "corpus" / "validation.json").read_text())
    answered = (small.out / "settings" / "base" / "answers.jsonl").read_text()
    assert json.loads(answered.splitlines()[-1])["id"] in {question["id"] for question in asked}
    assert kept["settings"] == small.settings
    assert tried[0]["mean"] == pytest.approx((tried[0]["basic"] + tried[0]["agree"] + tried[0]["stress"]) / 3)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"settings": {"nonsense": 1}}, "nonsense"),
        ({"seeds": (-1,)}, "seed"),
        ({"settings": {"seed": 9}}, "seed is not a run"),
    ],
)
def test_what_no_run_can_be_is_refused_before_anything_is_made(change, fault, tmp_path):
    for work in (run_proof, choose_settings, trace_curves, run_released, choose_released_settings):
        with pytest.raises(SettingError, match=fault):
            work(ProofOptions(out=tmp_path / "proof", **change))
    assert not (tmp_path / "proof").exists()


def test_a_file_or_a_damaged_plan_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="is a file"):
        run_proof(ProofOptions(out=tmp_path / "file"))
    (tmp_path / "proof").mkdir()
    (tmp_path / "proof" / "ground.json").write_text("{")
    with pytest.raises(DataError, match=r"ground\.json is not JSON"):
        run_proof(ProofOptions(out=tmp_path / "proof"))
    for name in ("settings", "curves"):
        for damaged in ("{", "[]", '[{"run": "base"}]', "[1]"):
            (tmp_path / "proof" / f"{name}.json").write_text(damaged)
            with pytest.raises(DataError, match=rf"{name}\.json is damaged"):
                run_proof(ProofOptions(out=tmp_path / "proof"))
        (tmp_path / "proof" / f"{name}.json").unlink()


def test_the_report_shows_raw_results_again(small, tmp_path):
    run_proof(small)
    arguments = ["proof", "report", str(small.out / "some.json"), "--out", str(tmp_path / "page.html")]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert (tmp_path / "page.html").read_text() == (small.out / "some.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["proof", "run", "--part", "smollm2", "--only", "AVEm-DPO"], "does all its runs; leave --only out"),
        (["proof", "run", "--part", "curves", "--seed", "0", "--seed", "1"], "give one --seed"),
        (["proof", "run", "--part", "curves", "--known", "proof.json"], "leave --known out"),
        (["sweep", "proof"], "use `avem proof run`"),
        (["sweep", "proof-settings"], "use `avem proof run`"),
        (["sweep", "storage"], "use `avem proof run`"),
        (["sweep", "settings"], "use `avem proof run`"),
        (["sweep", "settings-smollm2"], "use `avem proof run`"),
    ],
)
def test_what_the_proof_can_not_do_is_refused(arguments, refusal, tmp_path):
    with pytest.raises(SettingError, match=refusal):
        CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "proof")], catch_exceptions=False)
    assert not (tmp_path / "proof").exists()


def test_seeds_of_ones_own_are_all_there_are(monkeypatch):
    asked = []
    monkeypatch.setattr(proof_run, "run_proof", lambda options: asked.append(options) or {})
    for seeds in (["--seed", "4", "--seed", "0", "--seed", "4"], []):
        CliRunner().invoke(app, ["proof", "run", *seeds], catch_exceptions=False)
    assert [one.seeds for one in asked] == [(4, 0), ()]


def test_reports_on_results_do_not_know_the_proof(small, tmp_path):
    run_proof(small)
    page = tmp_path / "page.html"
    with pytest.raises(DataError, match=r"some\.json"):
        CliRunner().invoke(app, ["report", str(small.out / "some.json"), "--out", str(page)], catch_exceptions=False)
    assert not page.exists()


def test_other_rows_and_other_corpora_are_refused(small):
    run_proof(small)
    with pytest.raises(SettingError, match=r"no run 'w/o Everything'; it has: .*; w/o PMP"):
        run_proof(ProofOptions(out=small.out, only=("w/o Everything",)))
    with pytest.raises(SettingError, match="proof"):
        run_proof(ProofOptions(out=small.out, only=("w/o PMP",)))
    with pytest.raises(SettingError, match="None of these runs has the seed 5"):
        run_proof(replace(small, only=("order of seed 1",), seeds=(5,)))


@pytest.mark.parametrize("run", ["w/o PMP", "int8 features"])
def test_a_wrong_seed_is_refused_before_the_ground(run, tmp_path):
    with pytest.raises(SettingError, match="seed"):
        run_proof(ProofOptions(out=tmp_path / "proof", only=(run,), seeds=(-1,)))
    assert not (tmp_path / "proof" / "corpus").exists()


def test_a_proof_stands_on_the_weights_of_another(small, tmp_path):
    first = replace(small, seeds=(0,))
    run_proof(first)
    shown = CliRunner().invoke(
        app, ["proof", "ground", str(small.out), str(tmp_path / "weights")], catch_exceptions=False
    )
    assert f"avem proof run --ground {tmp_path / 'weights'}" in " ".join(shown.output.split())
    copied = [path for path in (tmp_path / "weights").rglob("*") if path.suffix in (".json", ".md", ".jinja")]
    assert not [path for path in copied if str(small.out) in path.read_text()], "where it lay on this machine"
    second = replace(
        small, out=tmp_path / "second", seeds=(1,), ground=tmp_path / "weights", known=small.out / "some.json"
    )
    run_proof(second)
    assert not (tmp_path / "second" / "encoders").exists()
    assert not (tmp_path / "second" / "bases").exists()
    joined = Record.read(tmp_path / "second" / "some.json")
    assert set(joined.right["w/o PMP"]) == {0, 1}
    with pytest.raises(SettingError, match="holds a proof of other settings"):
        run_proof(replace(second, ground=None))
    weights = next((tmp_path / "weights" / "base-0").glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DataError, match=r"weights/base-0/.*safetensors"):
        run_proof(second)
    with pytest.raises(DataError, match="is not the ground of a proof"):
        run_proof(replace(second, ground=small.out / "corpus"))
    with pytest.raises(SettingError, match="made with --ground; copy the folder"):
        share_ground(second.out, tmp_path / "more")
    with pytest.raises(MissingFileError, match="has no languagebind-video yet"):
        share_ground(tmp_path, tmp_path / "more")
