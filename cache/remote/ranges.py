"""Which requests to make for many byte ranges: neighbours together, large ranges in parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

GAP_BYTES = 2**18
"""Bytes between two ranges up to which one request reads both: they take less time than another request."""
REQUEST_BYTES = 2**23
"""Most bytes of a request that reads several ranges; longer ranges are read in parts of this size."""

Range = tuple[str, int, "int | None"]
"""Object, first byte, and the byte behind the last one. A negative start with None: its last bytes. 0, None: all."""


@dataclass(slots=True)
class Request:
    """One request, and the ranges that it is for."""

    name: str
    start: int
    stop: int | None
    of: list[int] = field(default_factory=list)
    """Positions of the ranges among those that were asked for."""


def plan_requests(ranges: Sequence[Range]) -> list[Request]:
    """The requests that bring all ranges.

    A range longer than `REQUEST_BYTES` has several requests, which follow each other; any other has one.

    Example:
        >>> [(r.start, r.stop, r.of) for r in plan_requests([("a", 500, 600), ("a", 0, 100), ("b", -20, None)])]
        [(-20, None, [2]), (0, 600, [1, 0])]
    """
    requests = []
    closed: list[tuple[str, int, int, int]] = []
    for position, (name, start, stop) in enumerate(ranges):
        if stop is None:
            requests.append(Request(name, start, None, [position]))
        else:
            closed.append((name, start, stop, position))
    last: Request | None = None
    for name, start, stop, position in sorted(closed):
        if stop - start > REQUEST_BYTES:
            for first in range(start, stop, REQUEST_BYTES):
                requests.append(Request(name, first, min(first + REQUEST_BYTES, stop), [position]))
            last = None
        elif last is not None and _joins(last, name, start, stop):
            last.stop = max(last.stop or 0, stop)
            last.of.append(position)
        else:
            last = Request(name, start, stop, [position])
            requests.append(last)
    return requests


def _joins(last: Request, name: str, start: int, stop: int) -> bool:
    """Whether a range may be read by the request for the ones before it."""
    end = last.stop or 0
    return name == last.name and start - end <= GAP_BYTES and max(stop, end) - last.start <= REQUEST_BYTES
