"""What is said of clips that failed: how many, in which streams, which they are, why, and what to do.

`avem extract`, its `--dry-run` and `avem cache info` say it in the same words. A clip failed if the store has it and it
has no features in a stream. A file that can't be read is not in the store, so it is counted apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from avem.cache.records import ClipFailure
from avem.text.escaping import terminal_text
from avem.text.lists import counted, listed

SHOWN = 10
"""Clips that are named; the rest is counted."""
FILE = "file"
"""Kind of a failure whose file could not be read at all, so that the manifest does not have the clip."""


def failed_clips(failures: Sequence[ClipFailure]) -> int:
    """How many clips failed; one whose picture and sound both failed counts once, and unreadable files do not count.

    Example:
        >>> failed_clips([ClipFailure("a", "video", ""), ClipFailure("a", "audio", ""), ClipFailure("b", "file", "")])
        1
    """
    return len({failure.clip_id for failure in failures if failure.kind != FILE})


def unreadable_files(failures: Sequence[ClipFailure]) -> int:
    """How many clips have a file that can't be read; folders do not count."""
    return len({failure.clip_id for failure in failures if failure.kind == FILE and not _is_folder(failure)})


def failure_counts(failures: Sequence[ClipFailure]) -> str:
    """How many clips failed and in which streams, and what can't be read.

    Example:
        >>> failure_counts([ClipFailure("a", "video", ""), ClipFailure("a", "audio", ""), ClipFailure("b", "file", "")])
        "1 clip failed (1 video, 1 audio); 1 file can't be read"
        >>> failure_counts([]), failure_counts([ClipFailure("b", "file", "")])
        ('0 clips failed', "1 file can't be read")
    """
    by_stream = Counter(failure.kind for failure in failures if failure.kind != FILE)
    streams = f" ({', '.join(f'{count} {kind}' for kind, count in by_stream.items())})" if by_stream else ""
    unreadable = _unreadable(failures)
    failed = failed_clips(failures)
    parts = [f"{counted(failed, 'clip')} failed{streams}"] if failed or not unreadable else []
    return "; ".join([*parts, unreadable] if unreadable else parts)


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
        "1 file can't be read for the reason above; correct it or remove its row, and run the same command again."
        >>> failure_sentence([ClipFailure("a", "video", "a.mp4 is empty")])
        '1 clip failed for the reason above; the same command with --retry-failed retries it.'
        >>> failures = [ClipFailure("a", "video", "a.mp4 is empty"), ClipFailure("b/", "file", "b can't be read")]
        >>> failure_sentence(failures)  # doctest: +NORMALIZE_WHITESPACE
        "1 clip failed and 1 folder can't be read for the reasons above; the same command with --retry-failed retries
        the clip that failed, and reads the rest once it is readable."
    """
    failed, files, unreadable = failed_clips(failures), unreadable_files(failures), _unreadable(failures)
    one = len({failure.clip_id for failure in failures}) == 1
    said = " and ".join([f"{counted(failed, 'clip')} failed"] * bool(failed) + [unreadable] * bool(unreadable))
    said += " for the reason above" if one else " for the reasons above"
    if not failed:  # the next run looks at them anyway
        if not files:
            cure = "make it readable" if one else "make them readable"
        else:
            cure = "correct it or remove its row" if one else "correct them or remove their rows"
        return f"{said}; {cure}, and run the same command again."
    if not unreadable:
        return f"{said}; the same command with --retry-failed retries {'it' if one else 'them'}."
    return (
        f"{said}; the same command with --retry-failed retries the {'clip' if failed == 1 else 'clips'} that failed, "
        "and reads the rest once it is readable."
    )


def _is_folder(failure: ClipFailure) -> bool:
    return failure.clip_id.endswith("/")


def _unreadable(failures: Sequence[ClipFailure]) -> str:
    files = unreadable_files(failures)
    folders = len({failure.clip_id for failure in failures if failure.kind == FILE and _is_folder(failure)})
    parts = [counted(count, what) for count, what in ((files, "file"), (folders, "folder")) if count]
    return f"{listed(parts)} can't be read" if parts else ""
