"""Labels that are not understood: counted, and named with the nearest word that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from avem.emotions import nearest_words
from avem.records import Clip, Emotion
from avem.text.escaping import terminal_text
from avem.text.lists import counted

MOST = 12
"""Labels, or folders, that are named; the rest is counted."""


def label_notes(clips: Sequence[Clip]) -> list[str]:
    """Sentences about labels that mean none of the seven emotions, and about clips without any label.

    Args:
        clips: A dataset's clips.

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
            f"{counted(total, 'clip')} {_have(total)} a label that is none of the seven emotions, and "
            f"{'counts' if total == 1 else 'count'} as unlabelled: {', '.join(named)}{rest}. "
            f"Correct the labels ({', '.join(Emotion)}, or a synonym), and run the same command again; nothing is "
            "encoded twice."
        )
    if empty:
        lines.append(f"{counted(empty, 'clip')} {_have(empty)} no label.")
    return lines


def did_you_mean(label: str) -> str:
    """`; did you mean surprise?`, or nothing where no known word is near."""
    near = nearest_words(label)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _have(count: int) -> str:
    return "has" if count == 1 else "have"
