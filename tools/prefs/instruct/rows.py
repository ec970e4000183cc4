"""Instruction rows of what is there already: questions, descriptions, captions, labels, preference rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

from avem.evaluate.emorealm.questions import letters, option_text, polarities, prompt_text
from avem.records import InstructionRow, Modality, PreferenceRow, Question
from avem.tools.prefs.instruct.style import Style
from avem.tools.prefs.steps.answers import DESCRIBE
from avem.tools.prefs.steps.steps import CAPTION_TASK, DESCRIPTION_TASK, EMOTION_TASK, SIDES

ASK_CAPTION: dict[Modality, tuple[str, ...]] = {
    Modality.AUDIO: (
        "Describe what is heard in the clip.",
        "What can be heard, and how does the voice sound?",
        "Give an account of the speech and the sounds in the clip.",
    ),
    Modality.VISUAL: (
        "Describe what is seen in the clip.",
        "What does the person look like and do?",
        "Give an account of the face, the gestures and the scene.",
    ),
}
"""Questions that a caption of one side answers."""
ASK_EMOTION = (
    "Which of these emotions does the person in the clip show: {}?",
    "Name the emotion of the person in the clip. Choose from: {}.",
    "What does the person feel? Answer with one of these words: {}.",
)
"""Questions that a label answers."""


def pick(row_id: str, texts: Sequence[str]) -> str:
    """One of several wordings; which one follows from the row's id alone.

    Example:
        >>> pick("mafw/00001#description", ("one",))
        'one'
    """
    return texts[int.from_bytes(sha256(row_id.encode()).digest()[:8]) % len(texts)]


def question_row(question: Question, clip_id: str, style: Style = "letters") -> InstructionRow:
    """A multiple-choice question as a row.

    Args:
        question: In EmoReAlM's form; `explanation`, if it has one, stands in `extra`.
        clip_id: Its clip.
        style: `letters` asks as the benchmark does, options included, and answers with the option, `(B) ...`. `open`
            asks the question alone; the answer is the option's text, after Yes or No with the explanation.

    Example:
        >>> asked = Question("1", "1.mp4", "modality_agreement", "Do they agree?", ("(A) Yes", "(B) No"), "B")
        >>> question_row(asked, "demo/1").answer, question_row(asked, "demo/1", "open").answer
        ('(B) No', 'No')
    """
    right = question.choices[letters(question).index(question.answer.upper())]
    if style == "open":
        asked, answer = question.question, option_text(right)
        explanation = str(question.extra.get("explanation") or "").strip()
        if explanation and polarities(question):
            answer = explanation if explanation.lower().startswith(answer.lower()) else f"{answer}. {explanation}"
    else:
        asked, answer = prompt_text(question), right
    return InstructionRow(f"{question.id}#{style}", clip_id, modality_of(question.task), question.task, asked, answer)


def modality_of(task: str) -> Modality:
    """What a benchmark's task is about, by the end of its name; both sides where it does not say."""
    ends = {"_audio": Modality.AUDIO, "_video": Modality.VISUAL, "_visual": Modality.VISUAL}
    return next((modality for end, modality in ends.items() if task.endswith(end)), Modality.AUDIOVISUAL)


def description_row(clip_id: str, text: str) -> InstructionRow:
    """A description of the emotion in sound and picture (Fig. 36)."""
    row_id = f"{clip_id}#{DESCRIPTION_TASK}"
    return InstructionRow(row_id, clip_id, Modality.AUDIOVISUAL, DESCRIPTION_TASK, pick(row_id, DESCRIBE), text)


def caption_rows(clip_id: str, captions: Mapping[Modality, str]) -> list[InstructionRow]:
    """What is heard and what is seen, a row each."""
    rows = []
    for side, text in captions.items():
        row_id = f"{clip_id}#{CAPTION_TASK}_{SIDES[side]}"
        rows.append(InstructionRow(row_id, clip_id, side, CAPTION_TASK, pick(row_id, ASK_CAPTION[side]), text))
    return rows


def emotion_row(
    clip_id: str, label: str, labels: Iterable[str], modality: Modality = Modality.AUDIOVISUAL, name: str = EMOTION_TASK
) -> InstructionRow:
    """A question that lists labels, answered by the clip's own."""
    row_id = f"{clip_id}#{name}"
    asked = pick(row_id, ASK_EMOTION).format(", ".join(labels))
    return InstructionRow(row_id, clip_id, modality, EMOTION_TASK, asked, label)


def chosen_row(row: PreferenceRow) -> InstructionRow:
    """A preference row's question with its chosen answer."""
    return InstructionRow(f"{row.row_id}#chosen", row.clip_id, row.modality, row.task, row.question, row.chosen)


def moved(row: InstructionRow, clip_id: str) -> InstructionRow:
    """The row on another clip id."""
    return row if row.clip_id == clip_id else replace(row, clip_id=clip_id)
