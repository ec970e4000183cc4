"""Bad replies and bad endpoints: each kind is corrected, or noted with its reason; nothing and no clip is lost."""

from __future__ import annotations

import json
import logging

import pytest

from avem.errors import EndpointError, SettingError
from avem.records import Emotion
from avem.tools.prefs.asking.journal import Journal
from avem.tools.prefs.asking.prompts import load_prompts
from avem.tools.prefs.steps.replies import Context, is_english, read_reply
from avem.tools.prefs.steps.steps import STEPS
from avem.tools.project.standin.server import Fault, StandIn
from avem.train.data.rows import read_preferences
from tests.tools.prefs.conftest import json_lines

SMALL = {"limit": 6, "tasks": ("reasoning_basic_audio", "modality_agreement"), "guess_models": ()}
"""Enough of a build to meet every kind of reply."""


def build_rows(run, scenes, out, faults=(), **changes):
    with StandIn(scenes, faults=faults, awkward=changes.pop("awkward", False)) as standin:
        result = run(standin, **SMALL | {"out": out} | changes)
    return result, (result.out / "preferences.jsonl").read_text(), standin


def accounted_for(result, clips=6):
    rows = {row.clip_id for row in read_preferences(result.out / "preferences.jsonl")} if result.rows else set()
    left_out = {entry["clip_id"] for entry in json_lines(result.out / "rejected.jsonl") if entry["level"] == "clip"}
    return len(rows | left_out) == clips and not rows & left_out


@pytest.fixture(scope="module")
def whole(run_once):
    return run_once


@pytest.fixture(scope="module")
def run_once(corpus, scenes, tmp_path_factory):
    """What an undisturbed build makes."""
    from avem.tools.prefs.build import build
    from avem.tools.prefs.options import BuildOptions

    with StandIn(scenes) as standin:
        plain = {
            "root": corpus.root,
            "out": tmp_path_factory.mktemp("whole"),
            "endpoint": standin.endpoint,
            "model": "writer",
            "emotion_tolerance": 1.0,
        }
        result = build(BuildOptions(**plain | SMALL))
        return (result.out / "preferences.jsonl").read_text(), dict(standin.steps)


@pytest.mark.parametrize("kind", ["prose", "truncated", "language", "few_choices", "leaked"])
def test_a_bad_reply_is_corrected_by_asking_once_more(run, scenes, whole, tmp_path, kind):
    result, text, standin = build_rows(run, scenes, tmp_path / kind, [Fault(kind, share=0.5)])
    assert text == whole[0]
    assert sum(standin.steps.values()) > sum(whole[1].values())
    assert max(standin.billed.values()) == 1
    corrected = next(body for body in standin.bodies if len(body["messages"]) == 3)
    assert "can not be used" in corrected["messages"][2]["content"]
    assert accounted_for(result)


def test_fenced_json_is_read_as_it_is(run, scenes, whole, tmp_path):
    _, text, standin = build_rows(run, scenes, tmp_path / "fenced", [Fault("fenced", once=False)])
    assert text == whole[0]
    assert dict(standin.steps) == whole[1]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("prose", "not one JSON object"),
        ("truncated", "cut off"),
        ("language", "not in English"),
        ("few_choices", "questions/0/choices"),
        ("leaked", "gives the emotion away"),
        ("error", "declined: there is too"),
    ],
)
def test_what_stays_bad_is_left_out_with_its_reason(run, scenes, tmp_path, kind, reason):
    fault = Fault(kind, step="basic_audio", once=False)
    result, _, standin = build_rows(run, scenes, tmp_path / kind, [fault])
    entries = [entry for entry in json_lines(result.out / "rejected.jsonl") if entry["step"] == "basic_audio"]
    assert entries
    assert all(reason in entry["reason"] for entry in entries)
    asked = result.ledger.counts["reasoning_basic_audio"]["asked"]
    assert len(entries) == asked
    assert standin.steps["basic_audio"] == asked * (1 if kind == "error" else 2)
    assert accounted_for(result)


@pytest.mark.parametrize("kind", ["prose", "error", "truncated"])
def test_clips_whose_captions_never_come_are_named(run, scenes, tmp_path, kind):
    result, text, _ = build_rows(run, scenes, tmp_path / kind, [Fault(kind, once=False)])
    assert text == ""
    assert accounted_for(result)
    entries = json_lines(result.out / "rejected.jsonl")
    assert [entry["level"] for entry in entries].count("side") == 2 * 6


@pytest.mark.parametrize("kind", ["rate_limit", "server_error"])
def test_passing_trouble_is_waited_out_and_billed_once(run, scenes, whole, tmp_path, kind):
    result, text, standin = build_rows(run, scenes, tmp_path / kind, [Fault(kind, share=0.5)])
    assert text == whole[0]
    assert result.ledger.passing == 0
    assert sum(standin.arrived.values()) > sum(standin.billed.values()) == len(standin.billed)


def test_a_reply_that_does_not_come_in_time_is_asked_for_again(run, scenes, whole, tmp_path):
    faults = [Fault("timeout", step="agreement", share=0.7)]
    _, text, standin = build_rows(run, scenes, tmp_path / "late", faults, timeout_s=1.5)
    assert text == whole[0]
    assert max(standin.arrived.values()) == 2


def test_requests_that_fail_for_good_are_asked_again_by_the_next_run(run, scenes, whole, tmp_path):
    fault = Fault("server_error", step="basic_audio", once=False)
    result, _, standin = build_rows(run, scenes, tmp_path / "out", [fault], retries=0)
    failed = result.ledger.passing
    assert failed > 0
    assert accounted_for(result)
    before = sum(standin.billed.values())
    result, text, standin = build_rows(run, scenes, tmp_path / "out")
    assert text == whole[0]
    assert result.ledger.passing == 0
    assert before + sum(standin.billed.values()) == sum(whole[1].values())


def test_a_wrong_key_is_said_once_and_stops_the_run(run, scenes, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    fault = Fault("wrong_key", once=False)
    with StandIn(scenes, faults=[fault]) as standin, pytest.raises(EndpointError, match="refuses the key") as caught:
        run(standin, **SMALL | {"out": tmp_path / "out"})
    assert caught.value.stops_all
    assert sum(standin.arrived.values()) <= 4
    assert not standin.billed
    assert caplog.text == ""


def test_an_endpoint_that_is_down_stops_the_run(run, scenes, tmp_path):
    with (
        StandIn(scenes, faults=[Fault("server_error", once=False)]) as standin,
        pytest.raises(EndpointError, match="500"),
    ):
        run(standin, **{"out": tmp_path / "out", "retries": 0})
    assert sum(standin.arrived.values()) < 28


def test_captions_with_quotation_marks_and_braces_pass_through_whole(run, scenes, whole, tmp_path):
    result, text, standin = build_rows(run, scenes, tmp_path / "awkward", awkward=True)
    assert text == whole[0]
    captions = [entry["captions"]["audio"] for entry in json_lines(result.out / "captions.jsonl")]
    assert all('"{open}" and \\"$emotion\\" beside {"a": [1]}' in caption for caption in captions)
    prompts = [
        body["messages"][0]["content"] for body in standin.bodies if isinstance(body["messages"][0]["content"], str)
    ]
    assert any(json.dumps(captions[0], ensure_ascii=False) in prompt for prompt in prompts)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"emotion": "Anger "}', "anger"),
        ('Here it is: {"emotion": "fear"} as asked.', "fear"),
        ('```\n{"emotion": "fear"}\n```', "fear"),
        ('{"emotion": "rage"}', None),
        ('{"emotion": "anger"', None),
        ("[1]", None),
        ("", None),
    ],
)
def test_reading_a_reply(text, value):
    reading = read_reply(text, "stop", STEPS["audio_emotion"], Context())
    assert (reading.value["emotion"] if reading.value else None) == value
    assert bool(reading.faults) == (value is None)


@pytest.mark.parametrize(
    "text", ["ERROR", '"ERROR"', "ERROR - no sound", '{"error": "no sound"}', "'ERROR: no sound.'"]
)
def test_a_refusal_is_not_a_fault(text):
    reading = read_reply(text, "stop", STEPS["basic_audio"], Context())
    assert reading.refusal in ("no reason given", "no sound", "no sound.")
    assert not reading.faults


def test_a_question_may_not_hold_any_form_of_the_label():
    item = {
        "question": "How angrily does he speak?",
        "choices": [f"({x}) loudly {x}" for x in "ABCD"],
        "answer": "A",
        "explanation": "He speaks loudly.",
    }
    reply = json.dumps({"questions": [item]})
    assert read_reply(reply, "stop", STEPS["basic_audio"], Context(Emotion.ANGER)).faults
    assert not read_reply(reply, "stop", STEPS["basic_audio"], Context(Emotion.FEAR)).faults


def test_english_is_told_by_script_and_small_words():
    assert is_english("He says 'Ich kann nicht mehr', that is, he can not go on.")
    assert is_english("Tears.")
    assert not is_english("La mujer habla con voz fuerte porque siente rabia")
    assert not is_english("女人大声说话因为她很生气而且很害怕")


def test_two_runs_do_not_write_one_log(tmp_path):
    with Journal(tmp_path / "log.jsonl"), pytest.raises(SettingError, match="Another run"):
        Journal(tmp_path / "log.jsonl")


def test_every_prompt_holds_what_its_step_fills_in_and_its_figure():
    prompts = load_prompts()
    assert sorted(step.figure for step in STEPS.values()) == list(range(19, 37))
    for step in STEPS.values():
        assert all(f"${name}" in prompts.texts[step.name] for name in step.placeholders)
        assert "JSON object" in prompts.texts[step.name]
    assert len({prompts.title(name) for name in STEPS}) == len(STEPS)
