"""Nothing is paid for twice: kills at random moments, interruptions, torn logs, and the provider's batch service."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from avem.endpoint.chat import ChatClient, ChatSettings
from avem.tools.prefs.asking.engine import Engine, Job
from avem.tools.prefs.asking.journal import Journal
from avem.tools.prefs.asking.prompts import load_prompts
from avem.tools.prefs.steps.pipeline import code_of
from avem.tools.prefs.steps.replies import Context
from avem.tools.prefs.steps.steps import STEPS
from avem.tools.project.standin.server import StandIn
from tests.tools.prefs.conftest import json_lines

KILLS = 10


def start(standin, corpus, out):
    """The command in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "avem",
        "prefs",
        "build",
        str(corpus.root),
        "--endpoint",
        standin.endpoint,
        "--model",
        "writer",
        "--out",
        str(out),
        "--limit",
        "8",
        "--parallel",
        "4",
        "--emotion-tolerance",
        "1",
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answered(out):
    return [entry["id"] for entry in json_lines(out / "log.jsonl") if entry["type"] == "reply"]


def wait_for(condition, process, limit_s=60.0):
    end = time.monotonic() + limit_s
    while time.monotonic() < end and process.poll() is None and not condition():
        time.sleep(0.005)


@pytest.mark.slow
def test_kills_at_random_moments_pay_for_no_request_twice(run, corpus, scenes, tmp_path):
    rng, out = random.Random(1), tmp_path / "out"
    killed = 0
    with StandIn(scenes, latency_s=0.02) as standin:
        for _ in range(KILLS):
            goal = sum(standin.arrived.values()) + rng.randint(1, 12)
            process = start(standin, corpus, out)
            wait_for(lambda goal=goal: sum(standin.arrived.values()) >= goal, process)
            time.sleep(rng.random() * 0.03)
            killed += process.poll() is None
            process.kill()
            process.communicate()
            arrived_before, logged = (
                dict(standin.arrived),
                set(answered(out)) if (out / "log.jsonl").exists() else set(),
            )
            assert len(logged) == len(answered(out)) if logged else True
        process = start(standin, corpus, out)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert killed >= 8
    assert max(standin.billed.values()) == 1
    assert all(standin.arrived[identity] == arrived_before[identity] for identity in logged)
    lost = sum(standin.arrived.values()) - len(standin.arrived)
    assert lost <= 4 * KILLS
    with StandIn(scenes) as other:
        whole = run(other, out=tmp_path / "whole", limit=8, guess_models=())
    assert (out / "preferences.jsonl").read_text() == (whole.out / "preferences.jsonl").read_text()
    assert sum(other.billed.values()) == sum(standin.billed.values())


def test_an_interrupted_run_comes_to_rest_and_loses_no_reply(corpus, scenes, tmp_path):
    out = tmp_path / "out"
    with StandIn(scenes, latency_s=0.3) as standin:
        process = start(standin, corpus, out)
        wait_for(lambda: sum(standin.arrived.values()) >= 3, process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again to resume" in said
    assert "Traceback" not in said
    assert sorted(answered(out)) == sorted(standin.billed)


def test_a_log_that_a_crash_cut_short_is_read_up_to_there(tmp_path):
    from avem.endpoint.chat import ChatReply

    path = tmp_path / "log.jsonl"
    with Journal(path) as journal:
        journal.write_request("a", "basic_audio", "writer", "clip", [])
        journal.write_reply("a", ChatReply('said "so"', 3, 2, "stop"))
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"type": "reply", "id": "b", "text": "half')
    with Journal(path) as journal:
        assert journal.reply("a") == ChatReply('said "so"', 3, 2, "stop")
        assert journal.reply("b") is None
        journal.write_reply("c", ChatReply("x"))
    assert path.read_bytes().startswith(whole)
    with Journal(path) as journal:
        assert journal.reply("c") == ChatReply("x")
        assert journal.requests["basic_audio"] == 1


def test_a_second_run_sends_nothing(run, scenes):
    small = {"limit": 5, "tasks": ("modality_agreement",)}
    with StandIn(scenes) as standin:
        first = run(standin, **small)
        sent, text = sum(standin.arrived.values()), (first.out / "preferences.jsonl").read_text()
        second = run(standin, **small)
        assert sum(standin.arrived.values()) == sent
    assert (second.out / "preferences.jsonl").read_text() == text
    assert second.tokens == first.tokens


def test_equal_requests_in_flight_are_sent_once(scenes, tmp_path):
    step, (scene, other) = STEPS["stress_audio_present"], scenes[:2]
    jobs = [
        Job(
            one.clip_id,
            step,
            "writer",
            {"code": code_of(one.clip_id), "emotion": str(one.emotion), "audio_caption": "A loud voice is heard."},
            Context(one.emotion),
        )
        for one in (scene, other, scene, scene)
    ]

    async def ask(standin):
        settings = ChatSettings(endpoint=standin.endpoint, model="writer", parallel=4)
        with Journal(tmp_path / "log.jsonl") as journal:
            async with ChatClient(settings) as client:
                return await Engine({"writer": client}, load_prompts(), journal).run("requests", jobs)

    with StandIn(scenes, latency_s=0.05) as standin:
        outcomes = asyncio.run(ask(standin))
        assert sorted(standin.arrived.values()) == [1, 1]
    assert outcomes[0].value is not None
    assert outcomes[0] == outcomes[2] == outcomes[3] != outcomes[1]


def serve_batch(standin, folder, fail=()):
    """What a provider does with the request files: answers each line once."""
    taken = folder / "results" / "taken.json"
    done = set(json.loads(taken.read_text())) if taken.exists() else set()
    for path in sorted(folder.glob("requests-*.jsonl")):
        lines = []
        for entry in json_lines(path):
            if entry["custom_id"] in done:
                continue
            done.add(entry["custom_id"])
            headers = {"Idempotency-Key": entry["custom_id"]}
            if entry["custom_id"] in fail:
                lines.append({"custom_id": entry["custom_id"], "response": None, "error": {"message": "expired"}})
                continue
            url = standin.endpoint.removesuffix("/v1") + entry["url"]
            request = urllib.request.Request(url, json.dumps(entry["body"]).encode(), headers)
            body = json.load(urllib.request.urlopen(request))
            lines.append({"custom_id": entry["custom_id"], "response": {"status_code": 200, "body": body}})
        if lines:
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / "results" / f"{path.stem}-results.jsonl").write_text(text)
    taken.write_text(json.dumps(sorted(done)))


def test_batch_files_lead_to_the_same_rows(run, scenes, tmp_path):
    small = {"limit": 5, "tasks": ("reasoning_basic_audio", "modality_agreement"), "guess_models": ("guess-a",)}
    with StandIn(scenes) as standin:
        direct = run(standin, out=tmp_path / "direct", **small)
    with StandIn(scenes) as standin:
        for turn in range(20):
            result = run(standin, out=tmp_path / "batch", batch=True, **small)
            if not result.waiting:
                break
            if turn == 1:
                assert run(standin, out=tmp_path / "batch", batch=True, **small).batch_files == ()
            serve_batch(standin, tmp_path / "batch" / "batch")
    assert not result.waiting
    assert result.batch_files == ()
    assert max(standin.arrived.values()) == 1
    rows = [(folder.out / "preferences.jsonl").read_text() for folder in (direct, result)]
    assert rows[0] == rows[1] != ""


def test_requests_that_a_batch_failed_are_handed_in_again(run, scenes, tmp_path):
    small = {"limit": 3, "tasks": ("modality_agreement",), "batch": True, "out": tmp_path / "out"}
    with StandIn(scenes) as standin:
        first = run(standin, **small)
        lost = json_lines(first.batch_files[0])[0]["custom_id"]
        serve_batch(standin, tmp_path / "out" / "batch", fail={lost})
        again = run(standin, **small)
    assert lost in {entry["custom_id"] for path in again.batch_files for entry in json_lines(path)}


def test_a_process_can_end_while_the_log_is_open(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from avem.tools.prefs.asking.journal import Journal\n"
        "from avem.endpoint.chat import ChatReply\n"
        "journal = Journal(Path(sys.argv[1])); journal.write_reply('a', ChatReply('x')); os._exit(9)"
    )
    path = tmp_path / "log.jsonl"
    assert subprocess.run([sys.executable, "-c", code, str(path)], env=dict(os.environ)).returncode == 9
    with Journal(path) as journal:
        assert journal.reply("a") is not None
