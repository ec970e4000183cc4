"""How prompts show what is said in a clip."""

from __future__ import annotations


def with_subtitle(question: str, subtitle: str | None) -> str:
    r"""A question after what is said in the clip; the question alone without it.

    The words are those of Emotion-LLaMA's prompts; their subtitles come from the dataset, too.

    Example:
        >>> with_subtitle("What does he feel?", "Leave me alone!")
        'The person in the video says: Leave me alone!\nWhat does he feel?'
    """
    return f"The person in the video says: {subtitle}\n{question}" if subtitle else question
