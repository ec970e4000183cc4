"""Instruction rows: what a model writes about the controlled corpus, and what files turn into."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from avem.cache import FeatureStore
from avem.cli import app
from avem.errors import DataError, MissingFileError, PartialFailure, SettingError
from avem.evaluate import emorealm
from avem.extract import ExtractOptions, extract, read_dataset
from avem.files import write_json_lines
from avem.records import Modality, Question
from avem.tools.corpus.rows import preferences
from avem.tools.demo.models import make_encoders
from avem.tools.prefs.build import build
from avem.tools.prefs.checks.instructions import validate_instructions
from avem.tools.prefs.instruct.rows import ASK_EMOTION, pick, question_row
from avem.tools.prefs.options import BuildOptions
from avem.tools.prefs.steps.steps import INSTRUCTION_TASKS
from avem.tools.project.standin.server import Fault, StandIn
from avem.train.data.rows import read_instructions
from tests.endpoint_kit import stand_in
from tests.tools.prefs.conftest import json_lines
from tests.tools.prefs.test_prefs_hostile import NONSENSE


def call(*arguments, fails=None):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if fails is None:
        assert result.exception is None, (result.output, result.exception)
    else:
        assert isinstance(result.exception, fails), (result.output, result.exception)
        assert "\n" not in str(result.exception)
    return result


@pytest.fixture(scope="module")
def built(corpus, scenes, tmp_path_factory):
    """A build of all tasks on the training clips."""
    out = tmp_path_factory.mktemp("instruct") / "out"
    with StandIn(scenes) as standin:
        tasks = (*INSTRUCTION_TASKS, "caption", "emotion")
        options = BuildOptions(
            root=corpus.root,
            out=out,
            kind="instruct",
            endpoint=standin.endpoint,
            model="writer",
            split="train",
            tasks=tasks,
        )
        return build(options)


@pytest.fixture(scope="module")
def store(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    video, audio = make_encoders(folder / "encoders")
    extract(corpus.root, folder / "cache", ExtractOptions(video_encoder=video, audio_encoder=audio, workers=1))
    return folder / "cache"


def test_every_task_has_rows_that_training_reads(built, scenes):
    rows = read_instructions(built.out / "instructions.jsonl")
    assert {row.task for row in rows} == {*INSTRUCTION_TASKS, "caption", "emotion"}
    truth = {scene.clip_id: scene for scene in scenes}
    for row in rows:
        scene = truth[row.clip_id]
        if row.task == "emotion":
            assert row.answer == scene.emotion
            assert row.question in [text.format(row.question.split(": ")[1].rstrip("?.")) for text in ASK_EMOTION]
        if row.task == "modality_agreement":
            assert row.answer == ("(A) Yes" if scene.agrees else "(B) No")
        if row.task.startswith("reasoning_basic"):
            assert row.answer in row.question
            assert any(f"the {cue.phrase}" in row.answer.lower() for cue in scene.present(row.modality))
        if row.task == "description":
            assert row.modality == Modality.AUDIOVISUAL
            assert scene.face_cues[0].phrase in row.answer.lower()
            assert scene.voice_cues[0].phrase in row.answer.lower()
        if row.task == "caption":
            assert row.modality in (Modality.AUDIO, Modality.VISUAL)
            assert f"the {scene.present(row.modality)[0].phrase}" in row.answer
    stress = [row for row in rows if row.task == "reasoning_stress_audio"]
    assert {row.answer for row in stress} == {"(A) Yes", "(B) No"}
    assert built.rows == len(rows)
    counts = json.loads((built.out / "counts.json").read_text())["tasks"]
    assert {task: numbers["final"] for task, numbers in counts.items() if task != "total"} == {
        task: sum(row.task == task for row in rows) for task in counts
    }
    report = validate_instructions(built.out / "instructions.jsonl")
    assert report.errors == 0, report.faults


def test_captions_are_not_paid_for_twice(built, scenes, corpus, tmp_path):
    """From captions.jsonl a model writes the same questions as from the clips, and no clip is sent."""
    with StandIn(scenes) as standin:
        options = BuildOptions(
            root=built.out / "captions.jsonl",
            out=tmp_path / "out",
            kind="instruct",
            endpoint=standin.endpoint,
            model="writer",
        )
        again = build(options)
        assert not {step for step in standin.steps if step.endswith(("_caption", "_emotion"))}
        assert standin.steps["stress_audio_present"] > 0
    own = [row for row in json_lines(built.out / "instructions.jsonl") if row["task"] in INSTRUCTION_TASKS]
    assert json_lines(again.out / "instructions.jsonl") == own


def test_captions_without_a_model_are_rows_as_they_are(built, tmp_path):
    said = call("instruct", "build", built.out / "captions.jsonl", "--out", tmp_path / "out").output
    assert "No benchmark was named" in said
    plain = [row for row in json_lines(built.out / "instructions.jsonl") if row["task"] in ("caption", "emotion")]
    assert plain
    found = {row["row_id"]: row for row in json_lines(tmp_path / "out" / "instructions.jsonl")}
    assert {row["row_id"]: found[row["row_id"]] for row in plain} == {row["row_id"]: row for row in plain}
    call("instruct", "build", built.out / "captions.jsonl", "--out", tmp_path / "heard", "--tasks", "caption")
    assert {row["task"] for row in json_lines(tmp_path / "heard" / "instructions.jsonl")} == {"caption"}
    call("instruct", "build", built.out / "captions.jsonl", "--tasks", "description", fails=SettingError)


@pytest.mark.parametrize(
    ("style", "question", "answer"),
    [
        ("letters", "Do they agree? (A) Yes (B) No", "(B) No"),
        ("open", "Do they agree?", "No. The face smiles, the voice cries."),
    ],
)
def test_styles_of_a_yes_no_question(style, question, answer):
    extra = {"explanation": "The face smiles, the voice cries."}
    asked = Question("q", "a.mp4", "modality_agreement", "Do they agree?", ("(A) Yes", "(B) No"), "B", extra)
    row = question_row(asked, "d/a", style)
    assert (row.question, row.answer, row.modality) == (question, answer, Modality.AUDIOVISUAL)
    assert row.row_id == f"q#{style}"


def test_an_explanation_that_gives_the_verdict_is_not_doubled():
    extra = {"explanation": "Yes, both are glad."}
    asked = Question("q", "a.mp4", "modality_agreement", "Do they agree?", ("(A) Yes", "(B) No"), "A", extra)
    assert question_row(asked, "d/a", "open").answer == "Yes, both are glad."


def test_wordings_follow_from_the_row_alone():
    texts = ("one", "two", "three")
    picked = [pick(f"clip{number}", texts) for number in range(60)]
    assert picked == [pick(f"clip{number}", texts) for number in range(60)]
    assert set(picked) == set(texts)


@pytest.fixture(scope="module")
def benchmark(corpus, scenes, tmp_path_factory):
    """A benchmark of the test clips."""
    with StandIn(scenes) as standin:
        options = BuildOptions(
            root=corpus.root,
            out=tmp_path_factory.mktemp("benchmark") / "out",
            kind="emorealm",
            split="test",
            endpoint=standin.endpoint,
            model="writer",
            guess_models=("guess-a", "guess-b"),
            emotion_tolerance=1.0,
        )
        return build(options).out / "emorealm_v1.json"


def asked_about(benchmark):
    return {question.extra["clip_id"] for question in emorealm.read_questions(benchmark)}


def test_clips_of_a_benchmark_are_left_out_before_anything_is_asked(scenes, corpus, benchmark, tmp_path):
    with StandIn(scenes) as standin:
        common = ("--endpoint", standin.endpoint, "--model", "writer", "--tasks", "modality_agreement")
        said = call(
            "instruct", "build", corpus.root, *common, "--benchmark", benchmark, "--out", tmp_path / "out"
        ).output
        first = [body["messages"][0]["content"] for body in standin.bodies]
    leaked = asked_about(benchmark)
    assert f"{len(leaked)} clips are in the benchmark" in said.replace("\n", " ")
    rows = read_instructions(tmp_path / "out" / "instructions.jsonl")
    assert rows
    assert not leaked & {row.clip_id for row in rows}
    from avem.tools.prefs.steps.pipeline import code_of

    assert not any(code_of(clip) in json.dumps(content) for clip in leaked for content in first)
    noted = {line["clip_id"] for line in json_lines(tmp_path / "out" / "rejected.jsonl") if line["step"] == "benchmark"}
    assert noted == leaked
    with StandIn(scenes) as standin:
        common = ("--endpoint", standin.endpoint, "--model", "writer", "--split", "test")
        whole = json_lines(tmp_path / "out" / "rejected.jsonl")
        assert whole
        call("instruct", "build", corpus.root, *common, "--benchmark", every_clip(corpus, tmp_path), fails=DataError)
        assert not standin.bodies


def every_clip(corpus, folder):
    entries = [
        {
            "id": clip.clip_id,
            "video": clip.path,
            "task": "modality_agreement",
            "question": "?",
            "choices": ["(A) Yes", "(B) No"],
            "answer": "A",
        }
        for clip in read_dataset(corpus.root)
    ]
    (folder / "all.json").write_text(json.dumps(entries))
    return folder / "all.json"


def test_benchmark_questions_never_become_rows_by_mistake(corpus, benchmark, tmp_path):
    """Items need the name of the benchmark that is evaluated on, and its clips are left out."""
    out = tmp_path / "out"
    ended = call("instruct", "build", benchmark, "--out", out, fails=SettingError)
    assert "name the benchmark that you will evaluate on with --benchmark" in str(ended.exception)
    ended = call("instruct", "build", benchmark, "--benchmark", benchmark, "--out", out, fails=DataError)
    assert "All clips of" in str(ended.exception)
    assert not out.exists()
    entries = json.loads(benchmark.read_text())
    clips = sorted({entry["clip_id"] for entry in entries})
    (tmp_path / "held.json").write_text(json.dumps([entry for entry in entries if entry["clip_id"] in clips[:2]]))
    said = call("instruct", "build", benchmark, "--benchmark", tmp_path / "held.json", "--out", out).output
    assert "2 clips are in the benchmark" in said.replace("\n", " ")
    rows = read_instructions(out / "instructions.jsonl")
    assert {row.clip_id for row in rows} == set(clips[2:])
    by_id = {entry["id"]: entry for entry in entries}
    for row in rows:
        entry = by_id[row.row_id.removesuffix("#letters")]
        assert row.question == " ".join([entry["question"], *entry["choices"]])
        assert row.answer == entry["choices"]["ABCD".index(entry["answer"])]


def test_items_that_name_files_find_their_clips(corpus, store, tmp_path):
    items, other = every_clip(corpus, tmp_path), tmp_path / "other.json"
    entries = json.loads(items.read_text())
    other.write_text(json.dumps([entries.pop()]))
    items.write_text(json.dumps([*entries, {**entries[0], "id": "lost", "video": "nowhere.mp4"}]))
    common = ("--benchmark", other, "--out", tmp_path / "out")
    ended = call("instruct", "build", items, *common, "--cache", store, fails=PartialFailure)
    assert f"1 of {len(entries) + 1} entries of {items} have no clip and were left out: lost." in str(ended.exception)
    rows = read_instructions(tmp_path / "out" / "instructions.jsonl")
    assert {row.clip_id for row in rows} == {entry["id"] for entry in entries}
    assert call("instruct", "validate", tmp_path / "out" / "instructions.jsonl", "--cache", store)
    ended = call("instruct", "build", items, "--benchmark", other, "--out", tmp_path / "none", fails=DataError)
    assert "name the clips with --clips or --cache" in str(ended.exception)
    assert not (tmp_path / "none").exists()


def test_preference_rows_become_their_chosen_answers(scenes, tmp_path):
    rows = [row for scene in scenes for row in preferences(scene)]
    write_json_lines(tmp_path / "prefs.jsonl", (row.to_json() for row in rows))
    call("instruct", "build", tmp_path / "prefs.jsonl", "--out", tmp_path / "out")
    made = {row.row_id: row for row in read_instructions(tmp_path / "out" / "instructions.jsonl")}
    assert len(made) == len(rows)
    for row in rows:
        found = made[f"{row.row_id}#chosen"]
        assert (found.clip_id, found.modality, found.task) == (row.clip_id, row.modality, row.task)
        assert (found.question, found.answer) == (row.question, row.chosen)


def merr(corpus, folder, **more):
    """A file in MERR's form on the corpus' clips, coarse and fine accounts among them."""
    clips = read_dataset(corpus.root)[:4]
    entries = {}
    for number, clip in enumerate(clips):
        field = "caption" if number % 2 else "smp_reason_caption"
        entries[clip.path.rpartition("/")[2].rpartition(".")[0]] = {
            "AU_list": ["AU05", "AU26"],
            "visual_prior_list": ["eyes wide"],
            "audio_prior_list": "a loud voice",
            "peak_index": "12",
            "peak_AU_list": ["AU05"],
            "text": "What is that?",
            "pseu_emotion": ("happy", "worried")[number % 2],
            field: f"An account of clip {number}.",
        }
    (folder / "MERR.json").write_text(json.dumps({**entries, **more}, indent=4))
    return folder / "MERR.json", [clip.clip_id for clip in clips]


@pytest.mark.parametrize("where", ["--clips", "--cache"])
def test_merr_s_json(corpus, store, tmp_path, where):
    path, clips = merr(corpus, tmp_path)
    place = corpus.root if where == "--clips" else store
    call("instruct", "build", path, where, place, "--out", tmp_path / "out")
    rows = read_instructions(tmp_path / "out" / "instructions.jsonl")
    assert len(rows) == 8
    for number, clip in enumerate(clips):
        own = {row.task: row for row in rows if row.clip_id == clip}
        kind = "merr_coarse" if number % 2 else "merr_fine"
        assert own[kind].answer == f"An account of clip {number}."
        assert own["emotion"].answer == ("happy", "worried")[number % 2]
        assert "happy, worried" in own["emotion"].question
        assert {row.modality for row in own.values()} == {Modality.AUDIOVISUAL}
    call("instruct", "build", path, where, place, "--out", tmp_path / "fine", "--tasks", "merr_fine")
    assert len(json_lines(tmp_path / "fine" / "instructions.jsonl")) == 2


def test_merr_without_clips_is_a_sentence(corpus, store, tmp_path):
    path, _ = merr(corpus, tmp_path, sample_00000047={"caption": "Lost.", "pseu_emotion": "sad"})
    ended = call("instruct", "build", path, "--out", tmp_path / "out", fails=SettingError)
    assert "names samples and holds no clips; say where the clips are with --clips FOLDER" in str(ended.exception)
    ended = call("instruct", "build", path, "--cache", store, "--out", tmp_path / "out", fails=PartialFailure)
    assert f"1 of 5 entries of {path} have no clip and were left out: sample_00000047." in str(ended.exception)
    assert ended.exception.exit_status == 3
    assert len(json_lines(tmp_path / "out" / "instructions.jsonl")) == 8
    (left,) = json_lines(tmp_path / "out" / "rejected.jsonl")
    assert (left["item"], left["reason"]) == ("sample_00000047", "no clip has its name")
    (tmp_path / "none.json").write_text(json.dumps({"sample_1": {"caption": "x"}}))
    ended = call("instruct", "build", tmp_path / "none.json", "--cache", store, fails=DataError)
    assert "None of the 1 entries" in str(ended.exception)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ([], "its annotation is not an object"),
        ({"caption": ["x"]}, "its caption is not a text"),
        ({"smp_reason_caption": " "}, "its smp_reason_caption is not a text"),
        ({"pseu_emotion": 3}, "its pseu_emotion is not a label"),
        ({"text": "only words"}, "it has none of caption, smp_reason_caption, pseu_emotion"),
        ({"caption": "A man.</s><video>"}, "a special token or placeholder"),
    ],
)
def test_an_odd_entry_of_merr_is_left_out_with_its_reason(corpus, store, tmp_path, entry, reason):
    path, _ = merr(corpus, tmp_path)
    entries = json.loads(path.read_text())
    entries[next(iter(entries))] = entry
    path.write_text(json.dumps(entries))
    call("instruct", "build", path, "--cache", store, "--out", tmp_path / "out")
    (left,) = json_lines(tmp_path / "out" / "rejected.jsonl")
    assert reason in left["reason"]
    assert len(json_lines(tmp_path / "out" / "instructions.jsonl")) == 6


def test_other_files_are_refused_in_a_sentence(built, tmp_path):
    for name, text in (
        ("list.json", "[1, 2]"),
        ("object.json", '{"a": {"b": 1}}'),
        ("text.txt", "words"),
        ("torn.json", '[{"choices": '),
        ("empty.jsonl", ""),
        ("deep.json", "[" * 100_000),
    ):
        (tmp_path / name).write_text(text)
        call("instruct", "build", tmp_path / name, "--out", tmp_path / "out", fails=DataError)
    ended = call("instruct", "build", built.out / "instructions.jsonl", fails=DataError)
    assert "holds instruction rows already" in str(ended.exception)
    call("instruct", "build", tmp_path / "nothing", fails=MissingFileError)
    call("instruct", "build", built.out / "captions.jsonl", "--benchmark", tmp_path / "no.json", fails=MissingFileError)
    assert not (tmp_path / "out").exists()


def test_a_model_is_named_where_one_is_asked_and_nowhere_else(corpus, scenes, tmp_path):
    ended = call("instruct", "build", corpus.root, fails=SettingError)
    assert "name it with --model" in str(ended.exception)
    write_json_lines(tmp_path / "p.jsonl", (row.to_json() for row in preferences(scenes[0])))
    ended = call("instruct", "build", tmp_path / "p.jsonl", "--model", "m", fails=SettingError)
    assert "leave --model out" in str(ended.exception)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"clip_id": "a/b", "captions": {"audio": ""}}, "the audio caption of a/b is empty"),
        ({"clip_id": "a/b", "captions": {"smell": "x"}}, "smell"),
        ({"clip_id": "a/b", "captions": {"audio": "x"}, "predicted": {"audio": "glee"}}, "glee"),
        ({"clip_id": "a/b", "captions": {"audiovisual": "x"}}, "a caption of both sides at once"),
        ({"clip_id": "", "captions": {"audio": "x"}}, "the clip_id is empty"),
        ({"clip_id": "a/b", "captions": {}}, "holds no captions"),
    ],
)
def test_odd_captions_are_refused_with_their_line(tmp_path, line, message):
    write_json_lines(tmp_path / "captions.jsonl", [line])
    ended = call("instruct", "build", tmp_path / "captions.jsonl", "--out", tmp_path / "out", fails=DataError)
    assert message in str(ended.exception)


def test_a_dry_run_asks_nothing_and_writes_nothing(built, corpus, scenes, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with StandIn(scenes) as standin:
        common = ("--endpoint", standin.endpoint, "--model", "m", "--price-in", "1", "--out", tmp_path / "out")
        clips = call("instruct", "build", corpus.root, *common, "--dry-run").output
        captions = call("instruct", "build", built.out / "captions.jsonl", *common, "--dry-run").output
        assert not standin.bodies
    assert "stress_audio_spurious" in clips
    assert "video_caption" in clips
    assert "rejected_audio" not in clips
    assert "description" in captions
    assert "video_caption" not in captions
    said = call("instruct", "build", built.out / "captions.jsonl", "--dry-run", "--out", tmp_path / "out").output
    assert "would be written" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", NONSENSE, ids=range(len(NONSENSE)))
def test_a_build_survives_nonsense(content, corpus, tmp_path):
    with stand_in(lambda body: (200, content)) as served:
        options = BuildOptions(
            root=corpus.root,
            out=tmp_path / "out",
            kind="instruct",
            endpoint=served.endpoint,
            model="m",
            limit=1,
            retries=0,
        )
        result = build(options)
    assert result.rows == 0
    assert result.ledger.rejections


@pytest.mark.parametrize("kind", ["prose", "error", "truncated", "language", "few_choices", "leaked", "fenced"])
def test_spoilt_replies_are_corrected_or_left_out(kind, corpus, scenes, tmp_path):
    with StandIn(scenes, faults=[Fault(kind, share=0.5, once=False)]) as standin:
        options = BuildOptions(
            root=corpus.root, out=tmp_path / "out", kind="instruct", endpoint=standin.endpoint, model="m", limit=6
        )
        result = build(options)
    if result.rows:
        report = validate_instructions(result.out / "instructions.jsonl")
        assert report.errors == 0, report.faults
    assert result.ledger.rejections or kind == "fenced"


def start(standin, corpus, out):
    command = [sys.executable, "-m", "avem", "instruct", "build", corpus.root, "--endpoint", standin.endpoint]
    command += ["--model", "writer", "--out", out, "--limit", "6", "--parallel", "4"]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_build_resumes_and_pays_for_nothing_twice(corpus, scenes, tmp_path):
    out = tmp_path / "out"
    with StandIn(scenes, latency_s=0.02) as standin:
        for goal in (5, 20):
            process = start(standin, corpus, out)
            end = time.monotonic() + 60
            while sum(standin.arrived.values()) < goal and process.poll() is None and time.monotonic() < end:
                time.sleep(0.005)
            assert process.poll() is None, process.communicate()
            process.kill()
            process.communicate()
        process = start(standin, corpus, out)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert max(standin.billed.values()) == 1
        paid = sum(standin.billed.values())
    with StandIn(scenes) as other:
        options = BuildOptions(
            root=corpus.root,
            out=tmp_path / "whole",
            kind="instruct",
            endpoint=other.endpoint,
            model="writer",
            limit=6,
        )
        whole = build(options)
        assert sum(other.billed.values()) == paid
    assert (out / "instructions.jsonl").read_bytes() == (whole.out / "instructions.jsonl").read_bytes()


def test_rows_of_a_silent_or_unknown_clip_or_of_another_split_are_left_out(built, store, corpus, tmp_path):
    lines = json_lines(built.out / "captions.jsonl")
    lines[0] = {**lines[0], "clip_id": "demo/unknown"}
    write_json_lines(tmp_path / "captions.jsonl", lines)
    common = (tmp_path / "captions.jsonl", "--cache", store, "--out", tmp_path / "out")
    call("instruct", "build", *common)
    left = {line["item"]: line["reason"] for line in json_lines(tmp_path / "out" / "rejected.jsonl")}
    assert set(left.values()) == {"the clip is in none of the stores"}
    assert all(name.startswith("demo/unknown#") for name in left)
    held = {clip["clip_id"] for clip in FeatureStore.open(store).columns(["clip_id"]).to_pylist()}
    assert {row["clip_id"] for row in json_lines(tmp_path / "out" / "instructions.jsonl")} <= held


def test_validation_finds_each_fault(built, store, benchmark, tmp_path):
    rows = json_lines(built.out / "instructions.jsonl")
    good = rows[0]
    leaked = sorted(asked_about(benchmark))[0]
    odd = [
        {**good, "row_id": "a"},
        {**good, "row_id": "a", "question": "Other?"},
        {**good, "row_id": "b", "answer": " "},
        {**good, "row_id": "c", "modality": "smell"},
        {**good, "row_id": "d", "question": "Who?", "answer": "A man.</s>"},
        {**good, "row_id": "e", "clip_id": leaked},
        {**good, "row_id": "f", "clip_id": "demo/unknown", "question": "Where?"},
        {"clip_id": good["clip_id"], "transcript": "words"},
        {"clip_id": good["clip_id"], "transcript": ""},
        {**good, "row_id": "g", "task": "reasoning_basic_audio", "question": "Why is she angry?"},
        {**good, "row_id": "h"},
    ]
    path = tmp_path / "rows.jsonl"
    write_json_lines(path, odd)
    path.write_text(path.read_text() + "{torn\n")
    report = validate_instructions(path, [benchmark], [store])
    found = {(fault.line, fault.kind) for fault in report.faults}
    assert found >= {
        (2, "duplicate-id"),
        (3, "schema"),
        (4, "schema"),
        (5, "special-token"),
        (6, "leak"),
        (7, "unknown-clip"),
        (9, "schema"),
        (10, "label-in-question"),
        (11, "duplicate-row"),
        (12, "not-json"),
    }
    assert not {line for line, _ in found} & {1, 8}
    ended = call("instruct", "validate", path, "--benchmark", benchmark, "--cache", store, fails=DataError)
    assert ended.exception.exit_status == 2
    assert "line 6: error leak" in ended.output


def test_lopsided_answers_are_warned_of(tmp_path):
    def row(number, question, answer):
        return {
            "row_id": str(number),
            "clip_id": f"c/{number}",
            "modality": "audio",
            "task": "reasoning_stress_audio" if "(D)" not in question else "reasoning_basic_audio",
            "question": question,
            "answer": answer,
        }

    rows = [row(n, "Is it? (A) Yes (B) No", "(A) Yes" if n < 6 else "(B) No") for n in range(30)]
    rows += [row(n, "What? (A) a (B) b (C) c (D) d", "(B) b" if n % 2 else "(A) a") for n in range(30, 60)]
    write_json_lines(tmp_path / "rows.jsonl", rows)
    report = validate_instructions(tmp_path / "rows.jsonl")
    said = {fault.kind: fault.message for fault in report.faults}
    assert said["verdict-imbalance"].startswith("20% of the answers of reasoning_stress_audio are yes")
    assert "is right in 50% of the questions of reasoning_basic_audio" in said["letter-imbalance"]
    assert report.errors == 0


def test_a_survey_of_instruction_rows_and_its_votes(built, tmp_path):
    rows = built.out / "instructions.jsonl"
    call("instruct", "survey", rows, "--out", tmp_path / "survey", "--sample", "6", "--votes", "1")
    key = json.loads((tmp_path / "survey" / "key.json").read_text())
    items = [item for item in key["items"] if not item["attention"]]
    assert len(items) == 6
    texts = {row["row_id"]: row for row in json_lines(rows)}
    assert all(item["response"] == texts[item["source"]]["answer"] for item in items)
    wrong = items[0]["id"]
    answers = {item["id"]: {"choice": 2 if item["id"] == wrong else item["expected"]} for item in key["items"]}
    saved = tmp_path / "answers.json"
    saved.write_text(json.dumps({"survey": key["survey"], "annotator": "ann", "booklet": 1, "answers": answers}))
    call("instruct", "votes", tmp_path / "survey", saved, "--out", tmp_path / "kept.jsonl")
    kept = read_instructions(tmp_path / "kept.jsonl")
    assert {row.row_id for row in kept} == {item["source"] for item in items[1:]}
