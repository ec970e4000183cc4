"""Labels of subtasks by a model: what it is shown, what becomes of its replies, and what a stopped run costs."""

import json

import pytest

from avem.endpoint.chat import ChatSettings
from avem.errors import DataError, EndpointError, PartialFailure, SettingError
from avem.evaluate.emorealm.subtasks import read_subtasks
from avem.records import Question
from avem.tools.prefs.cue_labels import CueOptions, check_complete, label_cues
from tests.endpoint_kit import stand_in
from tests.evaluate.media_kit import write_clip

YES_NO = ("(A) Yes", "(B) No")


@pytest.fixture
def benchmark(tmp_path):
    questions = [
        Question("yes", "a.mp4", "reasoning_stress_audio", "Does the sob matter?", YES_NO, "A"),
        Question("rain", "a.mp4", "reasoning_stress_audio", "Does the rain matter?", YES_NO, "B"),
        Question("hat", "a.mp4", "reasoning_stress_video", "Does the hat matter?", YES_NO, "B"),
        Question("gone", "z.mp4", "reasoning_stress_video", "Does the dog matter?", YES_NO, "B"),
    ]
    (tmp_path / "q.json").write_text(json.dumps([question.to_json() for question in questions]))
    caption = {"clip_id": "set/a", "captions": {"audio": "rain on a roof", "visual": "a man without a hat"}}
    (tmp_path / "captions.jsonl").write_text(json.dumps(caption) + "\n")
    return tmp_path


def said(body):
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def knows(body):
    return json.dumps({"cue": "it", "present": "rain" in said(body).partition("Question:")[2], "reason": "so"})


def options(folder, endpoint, **changes):
    model = ChatSettings(endpoint=endpoint, model="judge", retries=0, pause_s=0.0, parallel=1)
    plain = {"questions": folder / "q.json", "model": model, "captions": folder / "captions.jsonl"}
    return CueOptions(**{**plain, "out": folder / "out", **changes})


def test_questions_whose_answer_is_no_get_their_subtask_once(benchmark):
    with stand_in(knows) as server:
        labels = label_cues(options(benchmark, server.endpoint))
        assert len(server.asked) == 2
        assert label_cues(options(benchmark, server.endpoint)).counts == labels.counts
        assert len(server.asked) == 2, "the replies are kept"
    assert read_subtasks(labels.path) == {"rain": "spurious", "hat": "hallucinated"}
    assert "no clip z.mp4" in labels.failed["gone"]
    with pytest.raises(PartialFailure, match="1 questions have no label"):
        check_complete(labels)
    prompts = [said(body) for body in server.asked]
    assert "rain on a roof" in prompts[0]
    assert "without a hat" not in prompts[0], "a question about sound is asked on the sound alone"
    assert "a man without a hat" in prompts[1]


def test_the_clip_itself_is_sent_one_side_of_it(benchmark):
    write_clip(benchmark / "clips" / "a.mp4")
    with stand_in(knows) as server:
        label_cues(options(benchmark, server.endpoint, captions=None, media=benchmark / "clips", frames=3))
    kinds = [[part["type"] for part in body["messages"][0]["content"]] for body in server.asked]
    assert kinds == [["input_audio", "text"], ["image_url"] * 3 + ["text"]]


def test_a_reply_without_a_verdict_is_asked_for_again(benchmark):
    replies = iter(["It rains.", '{"present": "yes"}', '```json\n{"cue": "rain", "present": true}\n```'])
    with stand_in(lambda body: next(replies, knows(body))) as server:
        labels = label_cues(options(benchmark, server.endpoint))
    assert read_subtasks(labels.path)["rain"] == "spurious"
    assert labels.failed.keys() == {"gone"}
    assert len(server.asked[-1]["messages"]) > 1


def test_what_never_answers_is_named_and_nothing_is_invented(benchmark):
    with stand_in(lambda body: "no idea" if "rain" in said(body) else knows(body)) as server:
        labels = label_cues(options(benchmark, server.endpoint))
    assert "present has to be true or false" in labels.failed["rain"]
    assert read_subtasks(labels.path) == {"hat": "hallucinated"}


def test_refusals(benchmark):
    with pytest.raises(SettingError, match="give --media or --captions, not both"):
        options(benchmark, "http://localhost:1/v1", captions=None)
    with stand_in(lambda body: (401, "no")) as server, pytest.raises(EndpointError, match="refuses the key"):
        label_cues(options(benchmark, server.endpoint))
    (benchmark / "q.json").write_text(
        json.dumps([Question("y", "a.mp4", "reasoning_stress_audio", "Is it?", YES_NO, "A").to_json()])
    )
    with pytest.raises(DataError, match="nothing to label"):
        label_cues(options(benchmark, "http://localhost:1/v1"))
