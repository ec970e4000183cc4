"""What two fingerprints differ in, in a few words instead of two records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MOST = 4
"""Differences that are named; the rest is counted."""
LONGEST = 60
"""Characters of a value that are shown; digests are shown by their first 12."""


def fingerprint_differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Name what two fingerprints differ in.

    Args:
        there: What the store holds.
        wanted: What is to be written.

    Example:
        >>> fingerprint_differences({"encoder": "a", "x": {"size": 224, "n": 8}}, {"encoder": "a", "x": {"size": 112}})
        'x.n is 8 there and absent here, x.size is 224 there and 112 here'
    """
    first, second = dict(_leaves(there)), dict(_leaves(wanted))
    names = sorted(name for name in first.keys() | second.keys() if first.get(name, ...) != second.get(name, ...))
    said = [f"{name} is {_shown(name, first)} there and {_shown(name, second)} here" for name in names[:MOST]]
    more = [f"and {len(names) - MOST} more"] if len(names) > MOST else []
    return ", ".join([*said, *more])


def _leaves(record: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _shown(name: str, record: Mapping[str, Any]) -> str:
    if name not in record:
        return "absent"
    text = str(record[name])
    if name.endswith("sha256"):
        return text[:12]
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
