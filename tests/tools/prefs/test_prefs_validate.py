"""Checking preference files: the schema file is the law, every fault has its line, cheats by text alone are seen."""

from __future__ import annotations

import json
import random

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avem.cache import ClipRecord, StoreWriter
from avem.errors import DataError, MissingFileError
from avem.files import write_json_lines
from avem.records import Modality, PreferenceRow
from avem.tools.corpus import rows as corpus_rows
from avem.tools.corpus.scene import draw_scenes
from avem.tools.prefs.asking.schema import ROW_SCHEMA, faults_of, load_schema
from avem.tools.prefs.checks.leaks import ClipFacts, leak_faults
from avem.tools.prefs.checks.validate import validate
from avem.train.data.rows import read_preferences


def row(number: int = 0, **changes):
    base = {
        "row_id": f"r{number}",
        "clip_id": f"set/{number}",
        "modality": "audio",
        "task": "reasoning_basic_audio",
        "question": "What in the voice shows the feeling?",
        "chosen": "The loud voice shows it.",
        "rejected_video_relevant": "The faint rain shows it.",
        "rejected_emotion_relevant": "The low growl shows it.",
        "emotion": "anger",
        "provenance": {},
    }
    return base | changes


def checked(folder, items, **options):
    write_json_lines(folder / "rows.jsonl", items)
    return validate(folder / "rows.jsonl", **options)


def kinds(report):
    return [(fault.line, fault.kind) for fault in report.faults if fault.line]


def test_corpus_rows_are_sound_and_what_passes_trains(tmp_path):
    items = [item.to_json() for scene in draw_scenes(40, 1) for item in corpus_rows.preferences(scene)]
    report = checked(tmp_path, items)
    assert report.errors == 0
    assert report.rows == len(items) == len(read_preferences(tmp_path / "rows.jsonl"))
    assert report.counts["modality"]["audiovisual"] == 40


DIALECTS = "\x1c\x1d\x1e\x1f\x85\ufeff"
"""Blank to Python's regular expressions (the reference) or to ECMA's (what schemas use), but not to both."""
TEXTS = st.text(st.characters(exclude_characters=DIALECTS, exclude_categories=["Cs"]), max_size=3)


@given(
    st.dictionaries(
        st.sampled_from(["row_id", "clip_id", "modality", "question", "rejected_irrelevant", "emotion", "other"]),
        st.one_of(st.none(), TEXTS, st.integers(), st.sampled_from(["audio", "anger", " "])),
        max_size=3,
    )
)
@settings(max_examples=60)
def test_the_fast_validator_and_the_reference_validator_agree(changes):
    law = jsonschema.Draft202012Validator(load_schema(ROW_SCHEMA))
    item = row(**changes)
    assert len(faults_of(item, ROW_SCHEMA)) == len(list(law.iter_errors(item)))


def test_each_fault_stands_at_its_line(tmp_path):
    lacking = {name: value for name, value in row(2).items() if name != "chosen"}
    items = [
        row(0),
        row(1, modality="smell", question=" "),
        lacking,
        row(0, clip_id="set/9"),
        row(4, extra=1),
        row(5, rejected_video_relevant="The loud voice shows it. "),
        row(0, row_id="again"),
    ]
    path = tmp_path / "rows.jsonl"
    text = [json.dumps(item) for item in items]
    path.write_text("\n".join([*text[:4], "", "{broken", '"text"', "[1]", *text[4:]]) + "\n")
    assert kinds(validate(path)) == [
        (2, "schema"),
        (2, "schema"),
        (3, "schema"),
        (4, "duplicate-id"),
        (6, "not-json"),
        (7, "schema"),
        (8, "schema"),
        (9, "schema"),
        (10, "equal-answers"),
        (11, "duplicate-row"),
    ]


def test_missing_and_empty_files_are_named(tmp_path):
    with pytest.raises(MissingFileError, match="nothing"):
        validate(tmp_path / "nothing.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="no rows"):
        validate(tmp_path / "empty.jsonl")


def test_emotion_words_that_tell_the_answer(tmp_path):
    report = checked(
        tmp_path,
        [
            row(0, chosen="The angry shout shows it."),
            row(1, chosen="The angry shout shows it.", rejected_video_relevant="The rain shows anger."),
            row(2, question="What shows her ANGER?"),
            row(3, question="What shows her anger?", task="reasoning_stress_audio"),
        ],
    )
    assert kinds(report) == [(1, "emotion-words"), (3, "label-in-question")]
    assert report.errors == 0


def test_lengths_that_tell_the_answer(tmp_path):
    report = checked(tmp_path, [row(n, chosen="The loud voice " + "of the woman at the door " * 3) for n in range(4)])
    assert [fault.kind for fault in report.faults] == ["length-imbalance", "length-imbalance"]
    balance = report.lengths[0]
    assert balance.chosen_longer == 1
    assert balance.median_ratio == pytest.approx((3 + 18 + 1) / (5 + 1))


def test_text_alone_separates_what_has_a_marker_and_not_what_has_none(tmp_path):
    cues = ["sobbing", "laughter", "growling", "hissing", "gasping", "humming"]
    rng = random.Random(0)
    fair = []
    for n in range(400):
        chosen, spurious, hallucinated = rng.sample(cues, 3)
        fair.append(
            row(
                n,
                chosen=f"The {chosen} does.",
                rejected_video_relevant=f"The {spurious} may.",
                rejected_emotion_relevant=f"The {hallucinated} does.",
            )
        )
    found = {result.kind: result for result in checked(tmp_path, fair).text_only}
    assert found["rejected_video_relevant"].share > 0.99
    assert abs(found["rejected_emotion_relevant"].share - 0.5) < 0.1


def test_verdicts_that_follow_from_the_question_are_seen(tmp_path):
    items = []
    for n in range(200):
        cue, right, wrong = ("gasp", "Yes.", "No.") if n % 2 else ("rain", "No.", "Yes.")
        items.append(
            row(
                n,
                question=f"Does the {cue} show it?",
                chosen=right,
                rejected_video_relevant=wrong,
                rejected_emotion_relevant=wrong,
                task="stress",
            )
        )
    assert all(result.share == 1 for result in checked(tmp_path, items).text_only)


def benchmark(path, *videos):
    entries = [
        {
            "id": str(n),
            "video": video,
            "task": "modality_agreement",
            "question": "?",
            "choices": ["(A) Yes", "(B) No"],
            "answer": "A",
        }
        for n, video in enumerate(videos)
    ]
    path.write_text(json.dumps(entries))
    return path


def test_clips_of_the_benchmark_are_leaks_by_name_and_by_content(tmp_path):
    items = [row(0), row(1, provenance={"sha256": "abc"}), row(2, provenance={"sha256": "abc"}), row(3), row(4)]
    report = checked(tmp_path, items, benchmarks=[benchmark(tmp_path / "b.json", "set/3.mp4", "other/9.mp4")])
    assert kinds(report) == [(3, "duplicate-clip"), (4, "leak")]
    assert report.errors == 1


def test_a_store_tells_content_and_silence(tmp_path):
    writer = StoreWriter.open(tmp_path / "store")
    names = ["set/0", "set/1", "bench/1"]
    writer.add_clips(
        [ClipRecord(name, "toy", f"{name}.mp4", f"{n % 2:064x}", emotion="anger") for n, name in enumerate(names)],
        root=tmp_path,
    )
    writer.finish()
    report = checked(
        tmp_path,
        [row(0), row(1), row(2)],
        stores=[tmp_path / "store"],
        benchmarks=[benchmark(tmp_path / "b.json", "bench/1.mp4")],
    )
    assert kinds(report) == [(1, "leak"), (3, "unknown-clip")]
    facts = ClipFacts(silent={"set/1"}, paths={"set/1": "1.mp4"})
    rows = [(1, to_row(row(1))), (2, to_row(row(1, modality="visual")))]
    assert [(fault.line, fault.kind) for fault in leak_faults(rows, [], facts)] == [(1, "no-sound")]


def to_row(item):
    return PreferenceRow(**item | {"modality": Modality(item["modality"])})


@pytest.mark.parametrize("token", ["</s>", "<s>", "<|im_end|>", "<image>", "<video>", "<audio>"])
def test_a_special_token_is_an_error_on_its_line(tmp_path, token):
    rows = [row(0), row(1)]
    rows[1]["chosen"] += token
    write_json_lines(tmp_path / "rows.jsonl", rows)
    found = [fault for fault in validate(tmp_path / "rows.jsonl").faults if fault.kind == "special-token"]
    assert [(fault.line, fault.error, token in fault.message) for fault in found] == [(2, True, True)]
    rows[1]["chosen"] = "her @@turn@@ voice"
    write_json_lines(tmp_path / "rows.jsonl", rows)
    report = validate(tmp_path / "rows.jsonl", tokens=frozenset({"@@turn@@"}))
    assert [fault.line for fault in report.faults if fault.kind == "special-token"] == [2]
