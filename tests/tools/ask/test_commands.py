"""`avem ask` as it is typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}


def run(*arguments, cwd=None):
    command = [sys.executable, "-m", "avem", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, check=False)


def test_a_folder_with_a_bad_clip_is_asked_and_the_bad_one_named(world, tmp_path):
    """Text, JSON and page of one run each would take long; this one asks for JSON and the page."""
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "clips" / name).write_bytes((world.new / name).read_bytes())
    (tmp_path / "clips" / "bad.mp4").write_bytes(b"no film")
    (tmp_path / "q.txt").write_text("One?\nTwo?\n")
    done = run(
        *("ask", tmp_path / "clips", "--questions", tmp_path / "q.txt", "--model", world.root, "--json"),
        *("--page", tmp_path / "out.html", "--max-new-tokens", 3, "--device", "cpu", "--against", world.new / "b.mp4"),
        cwd=tmp_path,
    )
    assert done.returncode == 3, done.stderr
    assert done.stderr.rstrip().endswith(f"1 of 3 clips could not be used: {tmp_path / 'clips' / 'bad.mp4'}.")
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert [answer["question"] for answer in first["answers"]] == ["One?", "Two?"]
    assert first["emotions"]["question"] == "Which feeling?", "as the kit says"
    assert second["clip"].endswith("b.mp4")
    assert "bad.mp4 can't be decoded" in third["failed"]
    assert first["model"] == str(world.model)
    page = (tmp_path / "out.html").read_text()
    assert "bad.mp4 can&#39;t be decoded" in page
    assert page.count('<article class="card clip asked') == 3


def test_a_wrong_path_is_said_before_torch_is_imported(world, tmp_path):
    """All of it: clip, id, model, encoder, store, questions, page."""
    (tmp_path / "foreign.html").write_text("mine")
    clip = world.new / "a.mp4"
    cases = [
        (("none.mp4", "Why?", "--model", world.root), "There is no clip none.mp4"),
        (("none.mp4", "Why?"), "No model was named"),
        (("held/happy/9", "Why?", "--model", world.root), "did you mean held/happy/1 or held/happy/0?"),
        ((clip, "Why?", "--model", world.root, "--against", "held/hapy/1"), "did you mean held/happy/"),
        ((clip, "Why?", "--model", "./none"), "There is no model at ./none"),
        ((clip, "Why?", "--model", world.root, "--audio-encoder", "./none"), "--audio-encoder"),
        ((clip, "Why?", "--model", world.root, "--cache", "./none"), "no feature store at none"),
        ((clip, "--model", world.root, "--questions", "none.txt"), "no file of questions none.txt"),
        ((clip, "Why?", "--model", world.root, "--page", tmp_path / "foreign.html"), "foreign.html"),
        ((clip, "Why?", "--model", world.root, "--against", "none.mp4"), "There is no clip none.mp4"),
    ]
    script = (
        "import sys\nfrom avem.cli import main\n"
        "for case in __import__('json').loads(sys.stdin.read()):\n"
        "    sys.argv = ['avem', 'ask', *case]\n"
        "    try: main()\n"
        "    except SystemExit as end: print(end.code, 'torch' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps([list(map(str, arguments)) for arguments, _ in cases]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=ENVIRONMENT,
        check=True,
    )
    lines = done.stderr.splitlines()
    for said, ended, (_, expected) in zip(lines[::2], lines[1::2], cases, strict=True):
        assert expected in said
        assert ended == "2 False"


def test_ctrl_c_leaves_nothing_behind(world, tmp_path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "avem", "ask", str(world.new), "Why?", "--model", str(world.root)]
    command += ["--page", str(tmp_path / "out" / "page.html"), "--max-new-tokens", "900"]
    (tmp_path / "out").mkdir()
    environment = {**ENVIRONMENT, "TMPDIR": str(temporary)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **streams, env=environment, cwd=tmp_path / "out")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Model: ")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert not [path for path in temporary.rglob("*") if path.is_file() and "torchinductor" not in str(path)]
    assert not list((tmp_path / "out").iterdir())


def test_a_killed_command_resumes(world, tmp_path):
    """Three clips, killed after the first: the second run answers two, and prints all three."""
    command = ["ask", world.new, "Why?", "--model", world.root, "--json", "--max-new-tokens", "3", "--device", "cpu"]
    words = [sys.executable, "-m", "avem", *map(str, command)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT, cwd=tmp_path)
    assert process.stdout is not None
    first = process.stdout.readline()
    process.kill()
    process.communicate()
    log = tmp_path / "ask" / "answers.jsonl"
    before = log.read_bytes()
    kept = before[: before.rfind(b"\n") + 1]
    assert kept, "an answer that was printed was not kept"
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert json.loads(lines[0]) == json.loads(first)
    after = log.read_bytes()
    assert after.startswith(kept), "kept answers were written again"
    assert after.count(b"\n") == 3, "an answer was made twice"
    assert "The answers are kept in ask" in done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_bars_are_drawn_with_what_the_terminal_can_show(world, encoding):
    command = [sys.executable, "-m", "avem", "ask", str(world.held / "0.mp4"), "--model", str(world.root)]
    done = subprocess.run(
        [*command, "--max-new-tokens", "2"],
        capture_output=True,
        env={**ENVIRONMENT, "PYTHONIOENCODING": f"{encoding}:replace"},
        check=True,
    )
    text = done.stdout.decode(encoding)
    assert "Q: What is felt?" in text, "the kit's own question"
    assert f"from {world.cache}" in " ".join(text.split()), "the kit's own store holds the clip"
    assert ("\N{FULL BLOCK}" in text) == (encoding == "utf-8")
    assert ("##" in text) == (encoding == "latin-1")
    assert max(map(len, text.splitlines())) <= 80
