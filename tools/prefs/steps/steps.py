"""The steps of the pipeline: which prompt each one sends, with which media, and what its reply has to be."""

from __future__ import annotations

from dataclasses import dataclass

from avem.errors import SettingError
from avem.records import Modality

CAPTION, EMOTION, GUESS, DESCRIPTION = "reply_caption", "reply_emotion", "reply_guess", "reply_description"
CHOICES, YES_NO, REJECTED = "reply_choice_questions", "reply_yes_no_question", "reply_rejected"

ABOUT_CLIP = ("code", "emotion")
BOTH_CAPTIONS = ("audio_caption", "video_caption")
ABOUT_QUESTION = ("question", "choices", "answer")


@dataclass(frozen=True, slots=True)
class Step:
    """One kind of request."""

    name: str
    """Name of the prompt's file, without `.txt`."""
    figure: int
    """The paper's figure whose demands the prompt covers."""
    schema: str
    """Schema of the reply."""
    placeholders: tuple[str, ...]
    """What the prompt has to contain as `$name`."""
    media: Modality | None = None
    """What is sent along: the sound as WAV, or frames."""
    max_tokens: int = 1024
    expected_answer: str = ""
    """The letter that the right answer always has."""
    typical_tokens: int = 150
    """Tokens of a usual reply, for estimates of cost."""


def _stress(figure: int, side: str, kind: str) -> Step:
    letter = "A" if kind == "present" else "B"
    placeholders = (*ABOUT_CLIP, f"{side}_caption")
    return Step(f"stress_{side}_{kind}", figure, YES_NO, placeholders, expected_answer=letter, typical_tokens=120)


STEPS = {
    step.name: step
    for step in (
        Step("audio_caption", 19, CAPTION, ("code",), Modality.AUDIO, 1500, typical_tokens=250),
        Step("video_caption", 20, CAPTION, ("code",), Modality.VISUAL, 1500, typical_tokens=300),
        Step("audio_emotion", 21, EMOTION, ("emotions", "audio_caption"), max_tokens=100, typical_tokens=10),
        Step("video_emotion", 22, EMOTION, ("emotions", "video_caption"), max_tokens=100, typical_tokens=10),
        Step("basic_audio", 23, CHOICES, (*ABOUT_CLIP, "audio_caption"), max_tokens=2000, typical_tokens=450),
        Step("basic_video", 24, CHOICES, (*ABOUT_CLIP, "video_caption"), max_tokens=2000, typical_tokens=450),
        Step("agreement", 25, YES_NO, (*ABOUT_CLIP, *BOTH_CAPTIONS), typical_tokens=120),
        *(_stress(26 + n, "audio", kind) for n, kind in enumerate(("present", "spurious", "hallucinated"))),
        *(_stress(29 + n, "video", kind) for n, kind in enumerate(("present", "spurious", "hallucinated"))),
        Step("text_guess", 32, GUESS, ("question", "choices"), max_tokens=300, typical_tokens=40),
        Step("rejected_audio", 33, REJECTED, (*ABOUT_CLIP, "audio_caption", *ABOUT_QUESTION), typical_tokens=200),
        Step("rejected_video", 34, REJECTED, (*ABOUT_CLIP, "video_caption", *ABOUT_QUESTION), typical_tokens=200),
        Step("rejected_agreement", 35, REJECTED, (*ABOUT_CLIP, *BOTH_CAPTIONS, *ABOUT_QUESTION), typical_tokens=200),
        Step("description", 36, DESCRIPTION, (*ABOUT_CLIP, *BOTH_CAPTIONS), max_tokens=1500, typical_tokens=250),
    )
}
"""Every step by its name, in the order of the paper's figures."""

SIDES = {Modality.AUDIO: "audio", Modality.VISUAL: "video"}
"""How prompts and the benchmark's tasks call a modality."""

PREFERENCE_TASKS = ("reasoning_basic_audio", "reasoning_basic_video", "modality_agreement", "description")
BENCHMARK_TASKS = (
    "reasoning_basic_audio",
    "reasoning_basic_video",
    "modality_agreement",
    "reasoning_stress_audio",
    "reasoning_stress_video",
)
DESCRIPTION_TASK, CAPTION_TASK, EMOTION_TASK = "description", "caption", "emotion"
INSTRUCTION_TASKS = (*BENCHMARK_TASKS, DESCRIPTION_TASK)
"""What D.2 tunes its base on: the benchmark's tasks and Fig. 36's descriptions."""
PLAIN_TASKS = (CAPTION_TASK, EMOTION_TASK)
"""Rows of captions and labels as they are, for which no model is asked."""


def check_tasks(tasks: tuple[str, ...], known: tuple[str, ...], further: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The tasks asked for, or all known ones if none is.

    Args:
        tasks: What was asked for.
        known: What is done by default.
        further: What can be asked for too.

    Raises:
        SettingError: One of them is not known.
    """
    if unknown := [task for task in tasks if task not in (*known, *further)]:
        raise SettingError(f"--tasks {unknown[0]} is not known; known are {', '.join((*known, *further))}.")
    return tasks or known
