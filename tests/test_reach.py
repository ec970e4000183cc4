"""An address where nothing listens is said before anything heavy is loaded; one that may work is not refused."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from avem.endpoint.reach import need_endpoint
from avem.errors import EndpointError


@pytest.fixture
def closed_port():
    with socket.socket() as taken:  # bound and not listening, so nobody else can take the port
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_a_closed_port_is_refused(closed_port):
    with pytest.raises(EndpointError, match=r"the connection is refused\); start the server") as caught:
        need_endpoint(f"http://user:secret@127.0.0.1:{closed_port}/v1")
    assert "secret" not in str(caught.value)


def test_an_open_port_passes():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        need_endpoint(f"http://127.0.0.1:{server.getsockname()[1]}/v1")


def test_saved_answers_and_proxies_are_left_to_the_requests(closed_port, tmp_path, monkeypatch):
    need_endpoint(None)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "answers.jsonl").touch()
    need_endpoint(f"http://127.0.0.1:{closed_port}/v1", saved=tmp_path)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    need_endpoint(f"http://elsewhere.invalid:{closed_port}/v1")


def test_a_bench_says_so_before_torch_is_loaded(closed_port, tmp_path):
    (tmp_path / "q.json").write_text("[]")
    (tmp_path / "clips").mkdir()
    code = (
        "import sys; from avem.cli import app\n"
        "try: app(sys.argv[1:], standalone_mode=False)\n"
        "except Exception as error: print(error)\n"
        "print('torch' in sys.modules)"
    )
    url = f"http://127.0.0.1:{closed_port}/v1"
    arguments = ["bench", "emorealm", "--questions", "q.json", "--media", "clips", "--model", "m", "--endpoint", url]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    said, torch = done.stdout.splitlines()
    assert "can't be reached" in said
    assert torch == "False"
