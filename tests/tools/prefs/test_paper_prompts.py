"""The paper's own prompts: its placeholders are filled, and replies in its forms are read."""

import json

import pytest

from avem.errors import DataError
from avem.records import Emotion
from avem.tools.prefs.asking.prompts import load_prompts
from avem.tools.prefs.steps.replies import Context, read_reply
from avem.tools.prefs.steps.steps import STEPS

ANGER = Context(Emotion.ANGER, "Yes")


def read(reply, step, context=ANGER):
    text = reply if isinstance(reply, str) else json.dumps(reply)
    return read_reply(text, "stop", STEPS[step], context, paper=True)


def test_placeholders_of_the_paper_are_filled(tmp_path):
    (tmp_path / "basic_audio.txt").write_text(
        'Pay $5.\nVideo ID: "{VIDEO ID}"\nEmotion Label: "{EMOTION}"\nAudio Caption: "{AUDIO CAPTION}"\n'
    )
    (tmp_path / "audio_caption.txt").write_text("You are an expert in audio captioning.")
    prompts = load_prompts(tmp_path)
    assert prompts.papers == {"basic_audio", "audio_caption"}
    filled = prompts.render("basic_audio", {"code": "clip-1", "emotion": "anger", "audio_caption": 'He says "no".'})
    assert filled == ('Pay $5.\nVideo ID: "clip-1"\nEmotion Label: "anger"\nAudio Caption: "He says \\"no\\"."')
    (tmp_path / "basic_audio.txt").write_text('Emotion: "{EMOTION_LABEL}"')
    with pytest.raises(DataError, match=r"has no \$audio_caption"):
        load_prompts(tmp_path)


def test_answers_with_choice_and_text():
    question = {"question": "Does the shout show anger?", "choices": ["(A) Yes", "(B) No"]}
    beside = {"video_id": "x", "questions": [question], "answer": {"choice": "A", "text": "The shout shows it."}}
    inside = {"questions": [{**question, "answer": {"choice": "(A)", "text": "The shout shows it."}}]}
    texts = {"questions": [{**question, "answer": "A", "text": "The shout shows it."}]}
    for reply in (beside, inside, texts):
        reading = read(reply, "stress_audio_present")
        assert reading.faults == ()
        (found,) = reading.value["questions"]
        assert (found["answer"], found["explanation"]) == ("A", "The shout shows it.")
    assert read_reply(json.dumps(inside), "stop", STEPS["stress_audio_present"], ANGER).faults, "of the paper's alone"


@pytest.mark.parametrize(("step", "side"), [("rejected_audio", "audio"), ("rejected_video", "video")])
def test_rejected_answers_by_the_papers_names(step, side):
    choices = {
        "correct": "The shout shows that he is angry.",
        f"{side}_relevant_emotion_irrelevant": "The rain shows that he is angry.",
        f"emotion_relevant_{side}_irrelevant": "The growl shows that he is angry.",
        "all_irrelevant": "The bell shows that he is angry.",
    }
    reading = read({"video_id": "x", "question": "What shows it?", "choices": choices}, step)
    assert reading.faults == ()
    assert [reading.value[key] for key in ("correct", "video_relevant", "emotion_relevant", "irrelevant")] == list(
        choices.values()
    )


def test_figure_35_has_no_irrelevant_answer():
    choices = {
        "correct": "Yes, both are angry.",
        "video_relevant_emotion_irrelevant": "No, the rain is not.",
        "emotion_relevant_video_irrelevant": "No, the fist is not.",
    }
    reading = read({"question": "Do they agree?", "choices": choices}, "rejected_agreement")
    assert reading.faults == ()
    assert reading.value["irrelevant"] is None
    del choices["emotion_relevant_video_irrelevant"]
    assert read({"question": "Do they agree?", "choices": choices}, "rejected_agreement").faults


def test_replies_in_words():
    assert read("Guess Answer: (B)\nReason: only one is sad.", "text_guess").value["answer"] == "B"
    assert read("Guess Answer: None\nReason: no hint.", "text_guess").value["answer"] is None
    assert read("I can not say.", "text_guess").faults
    said = "He shouts, and his brows are drawn down, which shows that he is angry."
    assert read(said, "description").value == {"description": said}
    assert read('"ERROR" there is nothing to see', "description").refusal
