"""Logs of answers under damage: a changed line is named and asked again, never used; old logs are read."""

from __future__ import annotations

import json
import logging

import pytest

from avem.endpoint.chat import ChatReply
from avem.errors import DataError
from avem.evaluate.predict.answers import read_answers
from avem.evaluate.predict.log import AnswerLog
from avem.sealed.log import sealed_line
from avem.tools.prefs.asking.journal import Journal

ANSWERS = {
    "k1": {"id": "q1", "way": "likelihood", "logprobs": [-0.5, -1e-05]},
    "k2": {"id": "q2", "way": "generation", "reply": '(B) Ärger, "laut"\n'},
    "k3": {"id": "q3", "way": "generation", "reply": "C"},
}


def write_log(path):
    with AnswerLog(path) as log:
        log.append(ANSWERS)
    return path.read_bytes()


def flips(data, step):
    """The data with one bit changed, for every `step`-th bit."""
    for bit in range(0, len(data) * 8, step):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(damaged)


def test_no_flipped_bit_changes_an_answer(tmp_path):
    path = tmp_path / "answers.jsonl"
    data = write_log(path)
    lost = 0
    for bit, damaged in flips(data, 11):
        path.write_bytes(damaged)
        with AnswerLog(path) as log:
            found = {key: log.get(key) for key in ANSWERS}
            for key, record in found.items():
                assert record in (None, ANSWERS[key]), f"bit {bit} served {record}"
            assert set(log._records) <= set(ANSWERS), f"bit {bit} served another key"
        lost += None in found.values()
    assert lost >= 0.99 * len(data) * 8 // 11, "what a flip leaves the same is a letter's case in an exponent"


def test_a_damaged_line_is_named_and_asked_again(tmp_path, caplog):
    path = tmp_path / "answers.jsonl"
    path.write_bytes(write_log(path).replace(b'"reply": "C"', b'"reply": "D"'))
    with caplog.at_level(logging.WARNING), AnswerLog(path) as log:
        assert log.get("k3") is None
        log.append({"k3": ANSWERS["k3"]})
    assert "answers.jsonl: line 3 cannot be used" in caplog.text
    with AnswerLog(path) as log:
        assert {key: log.get(key) for key in ANSWERS} == ANSWERS


def test_logs_from_before_checksums_go_on(tmp_path, caplog):
    path = tmp_path / "answers.jsonl"
    old = {**ANSWERS["k1"], "key": "k1"}
    path.write_text(json.dumps(old) + "\n" + '{"key": "k9", "repl')
    with AnswerLog(path) as log:
        assert log.get("k1") == ANSWERS["k1"]
        log.append({"k2": ANSWERS["k2"]})
    path.write_bytes(path.read_bytes() + json.dumps({**ANSWERS["k3"], "key": "k3"}).encode() + b"\n")
    with caplog.at_level(logging.WARNING), AnswerLog(path) as log:
        assert (log.get("k1"), log.get("k2"), log.get("k3")) == (ANSWERS["k1"], ANSWERS["k2"], None)
    assert "line 3" in caplog.text, "after a sealed line, one without a seal was not written by avem"


@pytest.mark.parametrize("content", [b"my notes\nof today\n", b'{"id": "1", "answer": "A"}\n', b"\xff\xfe\n", b"[1]\n"])
@pytest.mark.parametrize("opened", [AnswerLog, Journal])
def test_a_file_of_the_user_is_refused_and_kept(tmp_path, content, opened):
    path = tmp_path / "answers.jsonl"
    for written in (content, content.rstrip()):
        path.write_bytes(written)
        if opened is Journal and content == b'{"id": "1", "answer": "A"}\n' and written.endswith(b"\n"):
            continue  # an object of nobody's: named, and never used
        with pytest.raises(DataError, match=r"answers\.jsonl"):
            opened(path)
        assert path.read_bytes() == written


def test_a_log_read_as_answers_is_checked_and_a_user_s_file_needs_no_seal(tmp_path):
    line = sealed_line({"key": "k", "id": "q1", "way": "generation", "reply": "(A)"})
    (tmp_path / "log.jsonl").write_bytes(line)
    assert read_answers(tmp_path / "log.jsonl") == {"q1": "(A)"}
    (tmp_path / "log.jsonl").write_bytes(line.replace(b"(A)", b"(B)"))
    with pytest.raises(DataError, match="damaged"):
        read_answers(tmp_path / "log.jsonl")
    (tmp_path / "mine.jsonl").write_text('{"id": "q1", "answer": "(A)", "check": "by hand"}\n')
    assert read_answers(tmp_path / "mine.jsonl") == {"q1": "(A)"}


def write_journal(path):
    with Journal(path) as journal:
        journal.write_request("r1", "caption", "m", "clip1", [{"role": "user", "content": "?"}])
        journal.write_reply("r1", ChatReply("fröhlich", 7, 3, "stop"))
        journal.write_error("r2", "no answer")
        journal.write_reply("r3", ChatReply("a\x00b", 1, 2, ""))
    return path.read_bytes()


def test_no_flipped_bit_changes_a_reply(tmp_path):
    path = tmp_path / "log.jsonl"
    data = write_journal(path)
    kept = {"r1": ChatReply("fröhlich", 7, 3, "stop"), "r3": ChatReply("a\x00b", 1, 2, "")}
    for bit, damaged in flips(data, 37):
        path.write_bytes(damaged)
        with Journal(path) as journal:
            for identity, reply in journal._replies.items():
                assert reply == kept.get(identity), f"bit {bit} served {reply}"


def test_a_journal_names_damage_cuts_off_a_torn_end_and_reads_old_lines(tmp_path, caplog):
    path = tmp_path / "log.jsonl"
    old = {"type": "reply", "id": "r0", "text": "old", "prompt_tokens": 1, "completion_tokens": 1, "finish_reason": ""}
    path.write_text(json.dumps(old) + "\n")
    write_journal(path)
    data = path.read_bytes().replace("fröhlich".encode(), b"traurigg ")
    path.write_bytes(data + b'{"type": "reply", "id": "r5", "te')
    with caplog.at_level(logging.WARNING), Journal(path) as journal:
        assert journal.reply("r0") == ChatReply("old", 1, 1, "")
        assert journal.reply("r1") is None
        assert journal.reply("r3") is not None
        journal.write_reply("r5", ChatReply("new"))
    assert "log.jsonl: line 3 cannot be used" in caplog.text
    assert path.read_bytes().startswith(data)
    with Journal(path) as journal:
        assert journal.reply("r5") == ChatReply("new")
