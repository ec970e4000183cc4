"""What is said of clips that failed: which they are, why, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from avem.cache.records import ClipFailure
from avem.text.escaping import terminal_text

SHOWN = 10
"""Clips that are named; the rest is counted."""
FILE = "file"
"""Kind of a failure whose file could not be read at all, so that the manifest does not have the clip."""


def failure_lines(failures: Sequence[ClipFailure]) -> list[str]:
    """Each failed clip with what failed and why, a line each."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        by_reason.setdefault((failure.clip_id, failure.reason), []).append(failure.kind)
    lines = [
        f"  {terminal_text(clip_id)} ({', '.join(kinds)}): {terminal_text(reason)}"
        for (clip_id, reason), kinds in [*by_reason.items()][:SHOWN]
    ]
    if len(by_reason) > SHOWN:
        lines.append(f"  ... and {len(by_reason) - SHOWN} more; `avem cache list --status failed` names them all.")
    return lines


def failure_sentence(failures: Sequence[ClipFailure]) -> str:
    """How many clips failed, and what tries them again.

    Args:
        failures: At least one; `failure_lines` says why.

    Example:
        >>> failure_sentence([ClipFailure("a", "file", "a.mp4 does not exist")])
        '1 clip failed for the reason above; correct its file or remove its row, and run the same command again.'
    """
    kinds = {failure.clip_id: failure.kind for failure in failures}
    one = len(kinds) == 1
    said = "1 clip failed for the reason above" if one else f"{len(kinds)} clips failed for the reasons above"
    if set(kinds.values()) == {FILE}:  # the next run looks at them anyway
        cure = "correct its file or remove its row" if one else "correct their files or remove their rows"
        return f"{said}; {cure}, and run the same command again."
    return f"{said}; the same command with --retry-failed retries {'it' if one else 'them'}."
