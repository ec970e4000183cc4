"""A bucket on this machine: moto's S3 server with a latency added to each request, counts, and faults on demand.

python -m avem.tools.project.benchmarks.bucket [LATENCY_S]        # prints its port, and serves until it is ended

moto looks at a condition (`If-None-Match`, `If-Match`) and then writes, which two threads can do at once. S3 does both
in one step, so changes take turns here.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Annotated, Any

import fsspec
import typer

from avem.processes import module_command

Reply = Iterable[bytes]
Fault = Callable[[str, str], "str | None"]
"""Takes a request's method and path; names what goes wrong with it: `refuse`, `lose` or nothing."""


@dataclass
class Bucket:
    """moto's server as a WSGI application.

    Args:
        latency_s: Waited for before each request is answered.
        fault: Asked before each request. `refuse` answers with status 503, `lose` carries the request out and then
            answers with status 500, as when a connection breaks after the server has done its work.
    """

    latency_s: float = 0.0
    fault: Fault | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of each request since the last `clear`."""

    def __post_init__(self) -> None:
        server: Any = import_module("moto.server")
        self._app = server.DomainDispatcherApplication(server.create_backend_app)
        self._changes = threading.Lock()

    def clear(self) -> None:
        """Forget the requests that were counted."""
        self.requests.clear()

    def counts(self) -> Counter[str]:
        """Requests by method since the last `clear`."""
        return Counter(method for method, _ in self.requests)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Reply:
        """Answer a request."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path.startswith("/_bucket/"):
            return self._control(path, start_response)
        self.requests.append((method, path))
        if self.latency_s:
            time.sleep(self.latency_s)
        fault = self.fault(method, path) if self.fault else None
        if fault == "refuse":
            return self._fail(method, "503 Slow Down", "SlowDown", start_response)
        if method in ("GET", "HEAD"):
            reply: Reply = self._app(environ, start_response)
            return reply
        with self._changes:
            if fault == "lose":
                list(self._app(environ, lambda *_: None))
                return self._fail(method, "500 Internal Server Error", "InternalError", start_response)
            return list(self._app(environ, start_response))

    def _control(self, path: str, start_response: Callable[..., Any]) -> Reply:
        """`/_bucket/latency/0.03` and `/_bucket/count`, for a benchmark in another process."""
        _, _, what, *rest = path.split("/")
        if what == "latency":
            self.latency_s = float(rest[0])
        text = str(len(self.requests))
        if what == "count":
            self.clear()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [text.encode()]

    @staticmethod
    def _fail(method: str, status: str, code: str, start_response: Callable[..., Any]) -> Reply:
        start_response(status, [("Content-Type", "application/xml")])
        body = f"<Error><Code>{code}</Code><Message>Try again.</Message></Error>".encode()
        return [] if method == "HEAD" else [body]


def options(port: int) -> dict[str, Any]:
    """Options of fsspec for a bucket on this machine."""
    return {
        "key": "k",
        "secret": "s",
        "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}"},
    }


@contextmanager
def used_by_fsspec(port: int) -> Iterator[None]:
    """Have every `s3://` URL of this process and its forks lead to a bucket on this machine."""
    before = dict(fsspec.config.conf)
    fsspec.config.conf["s3"] = options(port)
    try:
        yield
    finally:
        fsspec.config.conf.clear()
        fsspec.config.conf.update(before)


@contextmanager
def serving(bucket: Bucket, port: int = 0) -> Iterator[int]:
    """Serve a bucket on a thread of this process while the block runs; gives the port."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept, as S3 does

        def log(self, *arguments: object) -> None:
            """Say nothing."""

    server = make_server("127.0.0.1", port, bucket, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def in_own_process(latency_s: float = 0.0) -> Iterator[int]:
    """Serve a bucket from a process of its own while the block runs, so that it shares no lock with what is measured.

    Example:
        >>> with in_own_process() as port, used_by_fsspec(port):   # doctest: +SKIP
        ...     fsspec.filesystem("s3").mkdir("bucket")
    """
    command = module_command("avem.tools.project.benchmarks.bucket", str(latency_s))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.terminate()


def main(latency_s: Annotated[float, typer.Argument()] = 0.0) -> None:
    """Serve until ended; prints the port."""
    with serving(Bucket(latency_s)) as port:
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    typer.run(main)
