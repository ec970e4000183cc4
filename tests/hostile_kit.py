"""Peers that misbehave below HTTP's manners, and texts made to break whatever shows them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

HOSTILE = {
    "script": "</script><script>document.title = 'broken'</script>",
    "comment": "<!--<script>",
    "markup": '"><img src=x onerror="document.title = \'broken\'">',
    "nul": "a\x00b",
    "escape": "\x1b]0;owned\x07\x1b[2J\x1b[31mred",
    "c1": "\x9b31mred\x85next",
    "bidi": "abc\u202etxt.exe\u2066",
    "lines": "first\r\nsecond\u2028third",
    "formula": "=HYPERLINK(1)",
    "at": "@SUM(1)",
    "plus": "+1+cmd|' /C calc'!A0",
    "minus": "-2+3",
    "tab": "\t=1+1",
    "pipe": "a|b\n| c |",
    "rich": "[bold red]loud[/] [/nothing]",
    "template": "{{ 7 * 7 }} {% raw %} ${x}",
    "json": 'a"b\\c',
}
"""Texts by what they try."""


@contextmanager
def raw_peer(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads one request a connection and then does what it likes; gives its address.

    Args:
        answer: Writes to the connection; it is closed afterwards.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def talk(peer: socket.socket) -> None:
        with peer:
            try:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += peer.recv(65536)
                answer(peer)
            except OSError:  # the client has gone
                return

    def accept() -> None:
        while not stop.is_set():
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(peer,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
