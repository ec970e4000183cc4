"""Labels that are not understood: counted, and named with the nearest word that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from avem.cache.records import ClipFailure, ClipRecord
from avem.cache.windows import whole_ids
from avem.emotions import nearest_words
from avem.records import Clip, Emotion
from avem.text.escaping import terminal_text
from avem.text.lists import counted, have
from avem.text.names import storable

MOST = 12
"""Labels, or folders, that are named; the rest is counted."""


def label_notes(clips: Sequence[Clip | ClipRecord]) -> list[str]:
    """Sentences about labels that mean none of the seven emotions, and about clips without any label.

    Args:
        clips: A dataset's clips, as the store has them: windows count one by one, and unreadable files do not.

    Returns:
        Lines for the summary; none where every label is understood.
    """
    unknown = Counter(clip.emotions_raw.strip() for clip in clips if clip.emotion is None and clip.emotions_raw.strip())
    empty = sum(clip.emotion is None and not clip.emotions_raw.strip() for clip in clips)
    lines = []
    if unknown:
        first = unknown.most_common(MOST)
        named = [f"'{terminal_text(label)}' ({counted(count, 'clip')}{did_you_mean(label)})" for label, count in first]
        rest = f" and {len(unknown) - MOST} more labels" if len(unknown) > MOST else ""
        total = unknown.total()
        lines.append(
            f"{counted(total, 'clip')} {have(total)} a label that is none of the seven emotions, and "
            f"{'counts' if total == 1 else 'count'} as unlabelled: {', '.join(named)}{rest}. "
            f"Correct the labels ({', '.join(Emotion)}, or a synonym), and run the same command again; nothing is "
            "encoded twice."
        )
    if empty:
        lines.append(unlabelled(empty))
    return lines


def unlabelled(count: int) -> str:
    """A sentence about clips without a label, as extraction and `avem cache info` say it.

    Example:
        >>> unlabelled(1), unlabelled(3)
        ('1 clip has no label.', '3 clips have no label.')
    """
    return f"{counted(count, 'clip')} {have(count)} no label."


def held_clips(
    clips: Sequence[Clip], records: Sequence[ClipRecord], unreadable: Sequence[ClipFailure], known: pa.Table
) -> list[Clip | ClipRecord]:
    """What a store has of a dataset once a run is over: readable clips, and what it has of files that are lost."""
    lost = {failure.clip_id for failure in unreadable}
    rows = Counter(whole_ids(known)) if lost else Counter()
    return [*records, *(clip for clip in clips if clip.clip_id in lost for _ in range(rows[clip.clip_id]))]


def labels_kept(clips: Sequence[Clip], known: pa.Table) -> int:
    """How many of the dataset's clips have a label in the store, where the dataset gives no clip one; else 0."""
    if any(clip.emotions_raw for clip in clips):
        return 0
    ids = {storable(clip.clip_id) for clip in clips}
    held = zip(known["clip_id"].to_pylist(), known["emotions_raw"].to_pylist(), strict=True)
    return sum(bool(label) and clip_id in ids for clip_id, label in held)


def did_you_mean(label: str) -> str:
    """`; did you mean surprise?`, or nothing where no known word is near."""
    near = nearest_words(label)
    return f"; did you mean {' or '.join(near)}?" if near else ""
