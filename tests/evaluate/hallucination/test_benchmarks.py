"""AVHBench, CMM and EmotionHallucer: their files as questions, their numbers by hand, and a bench from the command."""

import json

import pytest
from typer.testing import CliRunner

from avem.cli import app
from avem.errors import DataError
from avem.evaluate.emorealm.metrics import Outcome
from avem.evaluate.emorealm.results import Item, score_items
from avem.evaluate.hallucination.registry import YES_NO_SETS
from avem.evaluate.hallucination.scores import result_scores, yes_no_scores

AVH = [
    {"video_id": "00191", "task": "Video-driven Audio Hallucination", "text": "Is the man heard?", "label": "Yes"},
    {"video_id": "00191", "task": "Video-driven Audio Hallucination", "text": "Is the couch heard?", "label": "No"},
    {"video_id": "00192", "task": "AV Matching", "text": "Do they match?", "label": "No"},
    {"video_id": "00192", "task": "AV Captioning", "text": "Describe it.", "label": "A man."},
]
CMM = [
    {
        "category": "over-reliance_unimodal_priors",
        "sub_category": "visual_dominance",
        "modality": "audio-visual",
        "video_path": "./reorg_raw_files/over/visual/1.mp4",
        "audio_path": None,
        "question": "Did you hear rain in the audio? Answer with yes or no.",
        "answer": "no",
    },
    {
        "sub_category": "audio-language",
        "video_path": None,
        "audio_path": "./raw_files/inter/audio/2.wav",
        "question": "Did you hear wind?",
        "answer": "yes",
    },
]
PAIRS = [
    {
        "video": "a.mp4",
        "type": "emotion",
        "basic": {"question": "Is she sad?", "answer": "yes"},
        "hallucination": {"question": "Is she glad?", "answer": "no"},
    },
    {
        "video_id": "b.mp4",
        "positive": {"question": "Is he calm?", "answer": "yes"},
        "negative": {"question": "Is he angry?", "answer": "no"},
    },
]


def written(path, entries, lines=False):
    path.write_text("\n".join(map(json.dumps, entries)) if lines else json.dumps(entries))
    return path


def test_avhbench_leaves_captioning_out(tmp_path):
    asked = YES_NO_SETS["avhbench"].read(written(tmp_path / "QA.json", AVH))
    assert [(q.video, q.answer) for q in asked] == [("00191.mp4", "A"), ("00191.mp4", "B"), ("00192.mp4", "B")]
    assert asked[2].task == "AV Matching"


@pytest.mark.parametrize("lines", [True, False])
def test_cmm_reads_lists_and_lines(tmp_path, lines):
    asked = YES_NO_SETS["cmm"].read(written(tmp_path / "cmm.json", CMM, lines))
    assert [(q.video, q.answer) for q in asked] == [("over/visual/1.mp4", "B"), ("inter/audio/2.wav", "A")]
    assert asked[0].task == "visual_dominance"
    assert asked[0].extra["modality"] == "audio-visual"


def test_a_pair_counts_if_both_are_right(tmp_path):
    asked = YES_NO_SETS["emotionhallucer"].read(written(tmp_path / "pairs.json", PAIRS))
    assert [q.answer for q in asked] == ["A", "B", "A", "B"]
    outcomes = [Outcome(q, letter) for q, letter in zip(asked, ["A", "B", "A", "A"], strict=True)]
    found = yes_no_scores(outcomes)
    assert found["accuracy"] == 75.0
    assert found["pair_accuracy"] == 50.0


@pytest.mark.parametrize(
    ("name", "entry", "said"),
    [
        ("avhbench", {**AVH[0], "label": "maybe"}, "entry 1: the answer is 'maybe'"),
        ("avhbench", {"video_id": "1", "task": "AV Matching"}, "entry 1 has no text in 'text'"),
        ("cmm", {"question": "?"}, "neither video_path nor audio_path"),
        ("emotionhallucer", {"video": "a.mp4"}, "has no basic with question and answer"),
        ("emotionhallucer", {"basic": {}}, "names no media"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, entry, said):
    with pytest.raises(DataError, match=said):
        YES_NO_SETS[name].read(written(tmp_path / "q.json", [entry]))


def test_numbers_by_hand(tmp_path):
    """Yes: 3 questions, said yes to 2. No: 2 questions, said yes to 1; one answer can't be read."""
    entries = [{**AVH[0], "label": label} for label in ("Yes", "Yes", "Yes", "No", "No")]
    asked = YES_NO_SETS["avhbench"].read(written(tmp_path / "q.json", entries))
    found = yes_no_scores([Outcome(q, letter) for q, letter in zip(asked, ["A", "A", None, "A", "B"], strict=True)])
    assert found == {
        "n": 5,
        "accuracy": 60.0,
        "precision": pytest.approx(200 / 3),
        "recall": pytest.approx(200 / 3),
        "no_accuracy": 50.0,
        "f1": pytest.approx(200 / 3),
        "yes_share": 60.0,
    }


def test_auc_does_not_depend_on_a_bias_to_yes(tmp_path):
    entries = [{**AVH[0], "label": label} for label in ("Yes", "Yes", "No", "No")]
    asked = YES_NO_SETS["avhbench"].read(written(tmp_path / "q.json", entries))
    odds = [9.0, 6.0, 7.0, 5.0]  # always yes; three of the four pairs are ranked right
    items = [Item(q, logprobs=(value, 0.0)) for q, value in zip(asked, odds, strict=True)]
    found = result_scores(score_items(items, resamples=0, name="m"), "likelihood")["all"]
    assert (found["auc"], found["accuracy"], found["yes_share"]) == (75.0, 50.0, 100.0)


def test_the_command_scores_given_answers(tmp_path):
    questions = written(tmp_path / "QA.json", AVH)
    replies = {"avhbench-0": "Yes, he is.", "avhbench-1": "yes", "avhbench-2": "No."}
    answers = written(tmp_path / "said.json", replies)
    arguments = ["bench", "avhbench", "--questions", str(questions), "--answers", str(answers)]
    run = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "bench"), "--format", "json"])
    assert run.exit_code == 0, run.output
    rows = {row["task"]: row for row in json.loads(run.output)["rows"]}
    assert rows["Video-driven Audio Hallucination"]["accuracy"] == 50.0
    assert rows["all"]["n"] == 3
    assert json.loads((tmp_path / "bench/avhbench/said/result.json").read_text())["benchmark"] == "avhbench"
