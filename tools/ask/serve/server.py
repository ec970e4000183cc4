"""The server: a page, its style and script, and one address that takes a clip with a question and gives a card."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from avem import __version__
from avem.errors import AvemError, EndpointError, SettingError
from avem.tools.ask.page import Played, ask_environment, render_card
from avem.tools.ask.serve.guard import HEADERS, NAMES, Guard
from avem.tools.ask.serve.turns import BusyError, Turns
from avem.tools.ask.serve.uploads import Upload, private_folder, received
from avem.tools.ask.session import AskSession

logger = logging.getLogger(__name__)

STALLED_S = 60.0
"""A connection on which nothing arrives for so long is closed."""
FILES = {
    "/style.css": ("serve.css.jinja", "text/css; charset=utf-8"),
    "/page.js": ("serve.js", "text/javascript; charset=utf-8"),
}


class AskServer(ThreadingHTTPServer):
    """Serves one model on this machine alone.

    Args:
        session: The model.
        port: Where; 0 for any free port.
        question: Stands in the page's field at first.
        why: Sentences that say why it is that one.
        folder: Private folder for uploads.
        limit_bytes: Largest upload.
        token: Whether the address holds a secret.

    Raises:
        SettingError: The port can't be used.
    """

    daemon_threads = True

    def __init__(
        self,
        session: AskSession,
        port: int,
        question: str,
        folder: Path,
        limit_bytes: int,
        *,
        why: Sequence[str] = (),
        token: bool = True,
    ) -> None:
        try:
            super().__init__((NAMES[0], port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SettingError(f"Port {port} can't be used ({reason}); give another with --port.") from error
        self.session, self.question, self.folder, self.limit_bytes = session, question, folder, limit_bytes
        self.guard = Guard(self.server_port) if token else Guard(self.server_port, "")
        self.turns = Turns()
        templates = ask_environment()
        self.files = {path: templates.get_template(name).render().encode() for path, (name, _) in FILES.items()}
        self.page = templates.get_template("serve.html.jinja").render(
            model=session.about, question=question, why=why, version=__version__, limit=limit_bytes
        )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what no handler foresaw; browsers that close a connection are none of it."""
        logger.debug("A connection ended early.", exc_info=True)


@contextmanager
def serving(
    session: AskSession,
    question: str,
    *,
    why: Sequence[str] = (),
    port: int = 0,
    limit_bytes: int = 200_000_000,
    token: bool = True,
) -> Iterator[AskServer]:
    """A server with its private folder, both gone when the block ends.

    Raises:
        SettingError: The port can't be used.

    Example:
        >>> with serving(session, "What does she feel?") as server:  # doctest: +SKIP
        ...     server.serve_forever()
    """
    with (
        private_folder() as folder,
        AskServer(session, port, question, folder, limit_bytes, why=why, token=token) as server,
    ):
        yield server


@contextmanager
def renamed(upload: Upload) -> Iterator[None]:
    """Have errors name a clip as the browser does, and not the private folder."""
    try:
        yield
    except AvemError as error:
        said = str(error)
        for clip in (upload.clip, upload.against):
            if clip is not None and clip.path is not None:
                said = said.replace(str(clip.path), clip.name).replace(clip.path.name, clip.name)
        error.args = (said, *error.args[1:])
        raise


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: AskServer
    server_version = "avem"
    sys_version = ""
    timeout = STALLED_S
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Serve the page, its files, and a request's place in the queue."""
        guard, address = self.server.guard, urlsplit(self.path)
        given = parse_qs(address.query)
        headers = dict(self.headers.items())
        ours = address.path == "/" and guard.is_own_host(headers.get("Host", ""))
        if ours and guard.opens(given.get("token", [""])[0]):
            self._send(HTTPStatus.SEE_OTHER, b"", "text/plain", {"Location": "/", "Set-Cookie": guard.cookie})
        elif fault := guard.fault(headers, posts=False):
            self._refuse(HTTPStatus.FORBIDDEN, fault)
        elif address.path == "/":
            self._send(HTTPStatus.OK, self.server.page.encode(), "text/html; charset=utf-8")
        elif address.path in FILES:
            self._send(HTTPStatus.OK, self.server.files[address.path], FILES[address.path][1])
        elif address.path == "/place":
            self._json(HTTPStatus.OK, {"before": self.server.turns.before(given.get("ticket", [""])[0])})
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def do_POST(self) -> None:
        """Answer a question about a clip."""
        self.close_connection = True  # whatever of the body is left unread must not be taken for the next request
        if fault := self.server.guard.fault(dict(self.headers.items()), posts=True):
            self._refuse(HTTPStatus.FORBIDDEN, fault)
        elif self.path != "/ask":
            self._refuse(HTTPStatus.NOT_FOUND, "There is nothing here.")
        elif not (length := self.headers.get("Content-Length", "")).isdecimal():
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "The request does not say how long it is.")
        else:
            self._answer(int(length))

    def _answer(self, length: int) -> None:
        server = self.server
        try:
            with (
                received(self.rfile, length, server.folder, server.limit_bytes) as upload,
                server.turns.turn(upload.ticket),
                renamed(upload),
            ):
                found = server.session.ask(upload.clip, [upload.question], upload.against)
                card = str(render_card(found, Played()))
        except BusyError as error:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except EndpointError as error:
            self._refuse(HTTPStatus.BAD_GATEWAY, str(error))
        except AvemError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except (TimeoutError, ConnectionError):
            return  # the browser has gone
        except Exception:
            logger.exception("The question could not be answered.")
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "This went wrong; the terminal of avem serve says how.")
        else:
            self._json(HTTPStatus.OK, {"card": card})

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._json(status, {"error": reason})

    def _json(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        shut = {"Connection": "close"} if self.close_connection else {}
        for name, value in {**HEADERS, "Content-Type": kind, **shut, **(more or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self._drain()

    def _drain(self) -> None:
        """Read on for a moment where a body was refused, so that the browser reads the reason instead of a reset."""
        if self.command != "POST" or not self.close_connection:
            return
        self.wfile.flush()
        self.connection.settimeout(1.0)
        try:
            self.connection.shutdown(socket.SHUT_WR)
            for _ in range(256):
                if not self.rfile.read1(1 << 20):
                    return
        except OSError:
            return

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: questions and names of clips belong to nobody's log."""
