"""One request at a time: a queue that says how many are before each."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from avem.errors import AvemError

MOST_WAITING = 8
"""Requests that may wait; more are refused."""


class BusyError(AvemError):
    """Too many requests wait already."""


class Turns:
    """Lets requests in one after the other, in the order in which they came."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: list[object] = []
        self._tickets: dict[object, str] = {}

    @contextmanager
    def turn(self, ticket: str) -> Iterator[None]:
        """Wait until all earlier requests are done, and hold the turn while the block runs.

        Args:
            ticket: Name of the request, for `before`.

        Raises:
            BusyError: Too many wait already.
        """
        mine = object()
        with self._changed:
            if len(self._queue) > MOST_WAITING:
                raise BusyError(f"{MOST_WAITING} questions wait already; ask again in a moment.")
            self._queue.append(mine)
            self._tickets[mine] = ticket
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._queue[0] is mine)
            yield
        finally:
            with self._changed:
                self._queue.remove(mine)
                del self._tickets[mine]
                self._changed.notify_all()

    def before(self, ticket: str) -> int | None:
        """How many requests are before one: 0 while it is answered; None where it is not known."""
        with self._changed:
            places = [number for number, each in enumerate(self._queue) if self._tickets[each] == ticket]
        return places[0] if places else None
