"""Builds and benches against endpoints that repeat keys or answer nonsense: no key in any file, and a run that ends."""

from __future__ import annotations

import json
import logging

import pytest
from typer.testing import CliRunner

from avem.cli import app
from avem.errors import AvemError, EndpointError
from avem.tools.prefs.asking.batch import Batch
from avem.tools.prefs.asking.journal import Journal
from avem.tools.prefs.build import build
from avem.tools.prefs.options import BuildOptions
from avem.tools.prefs.steps.replies import find_json
from tests.endpoint_kit import completion, stand_in
from tests.evaluate.media_kit import write_clip

KEY, PASSWORD, QUERY = "sk-s3same-street", "hunter27pass", "QUERYKEY1"
ENCODED = "YW5uOmh1bnRlcjI3cGFzcw"
"""`ann:hunter27pass` in base64, without its end."""


def keyed(address):
    return address.replace("://", f"://ann:{PASSWORD}@") + f"?api-key={QUERY}"


def echo(status):
    said = f"Authorization: Bearer {KEY}, Basic {ENCODED}==, http://ann:{PASSWORD}@here?api-key={QUERY}"
    return lambda body: (status, json.dumps({"error": {"message": said}})) if status != 200 else said


def assert_no_key(folder, *shown):
    texts = [(str(path), path.read_text(errors="replace")) for path in folder.rglob("*") if path.is_file()]
    texts += [(str(path), str(path)) for path in folder.rglob("*")]
    assert texts
    for name, text in (*texts, *(("shown", text) for text in shown)):
        for secret in (KEY, PASSWORD, QUERY, ENCODED):
            assert secret not in text, f"{secret} is in {name}"


@pytest.fixture
def key(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
def test_a_bench_keeps_no_key(key, status, tmp_path, caplog):
    question = {
        "id": "q",
        "video": "c0.mp4",
        "task": "reasoning_basic_video",
        "question": "?",
        "choices": ["(A) a", "(B) b"],
        "answer": "A",
    }
    (tmp_path / "questions.json").write_text(json.dumps([question]))
    write_clip(tmp_path / "media" / "c0.mp4")
    with stand_in(echo(status)) as served:
        shown = CliRunner().invoke(
            app,
            [
                "bench",
                "emorealm",
                "--model",
                "m",
                "--endpoint",
                keyed(served.endpoint),
                "--retries",
                "0",
                "--questions",
                str(tmp_path / "questions.json"),
                "--media",
                str(tmp_path / "media"),
                "--out",
                str(tmp_path / "out"),
            ],
        )
    if status in (401, 404):
        assert isinstance(shown.exception, EndpointError)
    else:
        assert shown.exit_code == 0, shown.exception
        assert "***" in (tmp_path / "out" / "m" / "result.json").read_text()
    assert_no_key(tmp_path / "out", shown.output, caplog.text, str(shown.exception))


@pytest.mark.parametrize("status", [200, 400, 401, 429])
def test_a_build_keeps_no_key_and_another_key_finds_the_same_answers(key, status, corpus, tmp_path, caplog):
    asked = []
    for password in (PASSWORD, PASSWORD):
        with stand_in(echo(status)) as served:
            address = keyed(served.endpoint).replace(PASSWORD, password)
            options = BuildOptions(
                root=corpus.root,
                out=tmp_path / "out",
                endpoint=address,
                model="m",
                guess_models=(f"g@{address}",),
                limit=2,
                retries=0,
                pause_s=0,
                emotion_tolerance=1.0,
            )
            said = ""
            try:
                build(options)
            except AvemError as error:
                said = str(error)
            assert_no_key(tmp_path / "out", caplog.text, said)
        asked.append(len(served.asked))
    if status == 200:
        assert asked[0] > 0, "a reply that is no JSON is asked again once, and then kept as it is"
        assert asked[1] == 0


def test_emer_keeps_no_key(key, tmp_path, caplog):
    (tmp_path / "references.json").write_text(json.dumps([{"id": "a", "reference": "She smiles."}]))
    (tmp_path / "mine.json").write_text(json.dumps({"a": "She frowns."}))
    with stand_in(echo(400)) as served:
        shown = CliRunner().invoke(
            app,
            [
                "bench",
                "emer",
                "--references",
                str(tmp_path / "references.json"),
                "--answers",
                str(tmp_path / "mine.json"),
                "--judge",
                "m",
                "--endpoint",
                keyed(served.endpoint),
                "--retries",
                "0",
                "--out",
                str(tmp_path / "out"),
            ],
        )
    assert len(served.asked) == 1, shown.output
    assert_no_key(tmp_path / "out", shown.output, caplog.text, str(shown.exception))


NONSENSE = [
    "[" * 100_000,
    '{"a": ' * 5000,
    completion('{"detailed_caption": ' + "[" * 50_000),
    completion('{"detailed_caption": Infinity, "emotion_caption": NaN}'),
    completion('{"detailed_caption": "\\ud800", "emotion_caption": ["x"]}'),
    completion('{"questions": {"0": null}}'),
    completion('{"emotion": {"a": 1}, "error": 5}'),
    completion("1" + "0" * 5000),
    completion("\x00\x1b[2J"),
    json.dumps({"choices": "text"}),
]


@pytest.mark.parametrize("content", NONSENSE, ids=range(len(NONSENSE)))
def test_a_build_survives_nonsense(content, corpus, tmp_path):
    with stand_in(lambda body: (200, content)) as served:
        options = BuildOptions(
            root=corpus.root,
            out=tmp_path / "out",
            endpoint=served.endpoint,
            model="m",
            limit=1,
            retries=0,
            emotion_tolerance=1.0,
        )
        result = build(options)
    assert result.rows == 0
    assert result.ledger.rejections


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 5000, '{"a": NaN}', '{"a": "\\ud800"}', "9" * 5000, "x {" * 99]
)
def test_nonsense_holds_no_json(text):
    assert find_json(text) is None


def line_of(identity, **fields):
    return json.dumps({"custom_id": identity, **fields})


def test_results_of_a_batch_are_believed_in_nothing(tmp_path, caplog):
    folder = tmp_path / "batch"
    (folder / "results").mkdir(parents=True)
    requests = [f"r{number}" for number in range(9)]
    (folder / "requests-001-x.jsonl").write_text("".join(line_of(name) + "\n" for name in requests) + "{torn\n[]\n")
    good = json.loads(completion("B"))
    odd = [
        line_of("r1", response={"body": {**good, "usage": {"prompt_tokens": float("inf")}}}),
        line_of("r2", response={"body": {**good, "choices": "text"}}),
        line_of("r3", response=[1]),
        line_of("r4", response={"body": "text"}, error=None),
        line_of("r5", response={"body": {**good, "choices": [{"message": {"content": "\ud800"}}]}}),
        line_of(["r6"], response={"body": good}),
        "[" * 100_000,
        "3",
        "null",
        "not JSON",
    ]
    lines = [line_of("r0", response={"body": good}), *odd, line_of("r8", response={"body": good})]
    (folder / "results" / "out.jsonl").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    with Journal(tmp_path / "log.jsonl") as journal:
        batch = Batch(folder, journal)
        assert [name for name in requests if journal.reply(name)] == ["r0", "r8"]
        assert [name for name in requests if batch.waits_for(name)] == ["r6", "r7"]
    assert "5 results are without a usable reply" in caplog.text
    assert "6 results are no result of a request" in caplog.text


def test_a_guesser_s_address_names_no_folder(tmp_path):
    with Journal(tmp_path / "log.jsonl") as journal:
        batch = Batch(tmp_path / "batch", journal)
        batch.add("r1", {})
        batch.flush("text_guess ../../g@http://ann:hunter27pass@host/v1")
    (path,) = batch.written
    assert path.parent == tmp_path / "batch"
    assert "hunter27pass" not in path.name
