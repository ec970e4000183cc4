"""Pre-test, subtitles, flags as in Fig. 6, corrections by hand, and labels of subtasks from votes."""

import json

import pytest

from avem.errors import DataError, MissingFileError
from avem.evaluate.emorealm import read_questions
from avem.evaluate.emorealm.subtasks import HALLUCINATED, SPURIOUS, read_subtasks
from avem.records import Question
from avem.tools.prefs.survey.cues import make_cue_survey, write_voted_labels
from avem.tools.prefs.survey.items import pretest_items
from avem.tools.prefs.survey.pages import SurveyOptions, make_survey
from avem.tools.prefs.survey.votes import keep_verified, read_corrections, read_verdicts, write_doubtful
from tests.tools.prefs.test_prefs_survey import answer_all, page_data


@pytest.fixture
def benchmark(tmp_path):
    questions = [
        Question(str(n), f"{n}.mp4", "reasoning_stress_audio", f"Is {n}?", ("(A) Yes", "(B) No"), "B") for n in range(4)
    ]
    path = tmp_path / "q.json"
    path.write_text(json.dumps([question.to_json() for question in questions]))
    return path


def key_of(folder):
    return json.loads((folder / "key.json").read_text())


def test_final_holds_what_was_corrected_by_hand(benchmark, tmp_path):
    make_survey(SurveyOptions(source=benchmark, out=tmp_path / "s", votes=2, attention_every=0))
    key = key_of(tmp_path / "s")

    def choose(who, item):
        wrong = item["id"] in ("0", "1")
        flag = {"problem": "subtitle"} if item["id"] == "2" else {"several": True} if item["id"] == "1" else {}
        return {"choice": 1 - wrong, **flag}

    paths = answer_all(key, tmp_path, ("ann", "bob"), choose)
    verdicts = read_verdicts(tmp_path / "s", paths)
    total = verdicts.groups[-1]
    assert (total.majority_correct, total.discrepancies, total.corrected, total.final) == (2, 2, 0, 1)
    assert total.flags == {"several": 2, "subtitle": 2}
    assert write_doubtful(tmp_path / "s", verdicts, tmp_path / "doubtful.json") == 2
    doubtful = read_questions(tmp_path / "doubtful.json")
    assert [question.id for question in doubtful] == ["1", "2"]
    mended = [{**question.to_json(), "question": "Is it mended?"} for question in doubtful]
    (tmp_path / "mended.json").write_text(json.dumps(mended))
    known = read_corrections(tmp_path / "mended.json")
    verdicts = read_verdicts(tmp_path / "s", paths, corrected=known)
    assert (verdicts.groups[-1].corrected, verdicts.groups[-1].final) == (2, 3)
    assert keep_verified(tmp_path / "s", verdicts, tmp_path / "kept.json", known) == 3
    kept = {question.id: question.question for question in read_questions(tmp_path / "kept.json")}
    assert kept == {"1": "Is it mended?", "2": "Is it mended?", "3": "Is 3?"}
    with pytest.raises(DataError, match="The survey has no 9"):
        keep_verified(tmp_path / "s", verdicts, tmp_path / "other.json", {"9": doubtful[0]})


def test_subtitles_are_shown_with_their_clips(benchmark, tmp_path):
    (tmp_path / "subtitles.csv").write_text('video,subtitle\n1.mp4,"Come, now."\n2.mp4,\n')
    options = SurveyOptions(source=benchmark, out=tmp_path / "s", subtitles=tmp_path / "subtitles.csv")
    make_survey(options)
    shown = {item["video"]: item["subtitle"] for item in page_data(tmp_path / "s")["items"].values() if item["video"]}
    assert shown == {"0.mp4": "", "1.mp4": "Come, now.", "2.mp4": "", "3.mp4": ""}
    (tmp_path / "subtitles.csv").write_text("clip,text\n1,a\n")
    with pytest.raises(DataError, match="columns video and subtitle"):
        make_survey(options)


def test_the_flags_are_those_of_figure_6(benchmark, tmp_path):
    make_survey(SurveyOptions(source=benchmark, out=tmp_path / "s"))
    page = (tmp_path / "s" / "index.html").read_text()
    for flag in ("question", "subtitle", "options", "other"):
        assert f'<option value="{flag}">' in page


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"question": "Q", "choices": ["a", "b"], "answer": 2}, "index of a choice"),
        ({"question": "Q", "choices": "ab", "answer": 0}, "a list of texts"),
        ({"question": "Q"}, "line 1"),
    ],
)
def test_a_broken_pretest_is_refused(tmp_path, line, said):
    (tmp_path / "test.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError, match=said):
        pretest_items(str(tmp_path / "test.jsonl"))
    with pytest.raises(MissingFileError, match="--pretest"):
        pretest_items(str(tmp_path / "none.jsonl"))


def test_own_pretest_does_not_reveal_itself(benchmark, tmp_path):
    (tmp_path / "test.jsonl").write_text('{"question": "Q?", "choices": ["a", "b"], "answer": 1}\n')
    make_survey(SurveyOptions(source=benchmark, out=tmp_path / "s", pretest=str(tmp_path / "test.jsonl"), votes=1))
    data = page_data(tmp_path / "s")
    assert data["items"][data["booklets"][0][0]]["question"] == "Q?"
    assert "pretest" not in json.dumps(data)


def test_labels_of_subtasks_are_what_most_people_say(benchmark, tmp_path):
    questions = read_questions(benchmark)
    labels = {"0": SPURIOUS, "1": HALLUCINATED, "2": SPURIOUS}
    options = SurveyOptions(source=benchmark, out=tmp_path / "s", votes=2, attention_every=0)
    assert make_cue_survey(questions, labels, options).blocks == 3

    def choose(who, item):
        return {"choice": {"0": 1, "1": 1, "2": int(who == "ann")}[item["source"]]}

    paths = answer_all(key_of(tmp_path / "s"), tmp_path, ("ann", "bob"), choose)
    assert write_voted_labels(tmp_path / "s", paths, tmp_path / "labels.jsonl") == 2
    assert read_subtasks(tmp_path / "labels.jsonl") == {"0": HALLUCINATED, "1": HALLUCINATED}
    groups = read_verdicts(tmp_path / "s", paths).groups
    assert (groups[-1].verified, groups[-1].majority_correct) == (3, 1)
    with pytest.raises(DataError, match="No question has a label to check"):
        make_cue_survey(questions, {}, options)
