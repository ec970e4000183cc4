"""A local stand-in for an OpenAI-compatible server, well behaved or not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reaction = Callable[[dict[str, Any]], Any]


@dataclass
class StandIn:
    """What the server does, and what it was asked.

    `reaction` maps a request's body to what comes back: text (a proper completion), `(status, text)` or
    `(status, text, headers)` sent as they are, or a number of seconds to be silent.
    """

    reaction: Reaction
    endpoint: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


def completion(text: str) -> str:
    """A whole reply as the API sends it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})


@contextmanager
def stand_in(reaction: Reaction) -> Iterator[StandIn]:
    """Serve on a free local port while the block runs."""
    served = StandIn(reaction)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.asked.append({"path": self.path, **body})
            served.keys.append(self.headers.get("Authorization", ""))
            result = served.reaction(body)
            if isinstance(result, int | float):
                time.sleep(result)
                result = "late"
            status, text, headers = (
                result
                if isinstance(result, tuple) and len(result) == 3
                else (
                    *(result if isinstance(result, tuple) else (200, completion(result))),
                    {},
                )
            )
            content = text.encode()
            try:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except OSError:  # the client has gone
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.endpoint = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
