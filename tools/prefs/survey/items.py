"""What annotators are asked: items from benchmark questions, from preference rows, and the checks between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avem.errors import DataError, MissingFileError
from avem.evaluate.emorealm import read_questions
from avem.evaluate.sheets import read_sheet
from avem.files import json_sha256, read_json_lines
from avem.reading import parse_json, read_text
from avem.records import InstructionRow, PreferenceRow, Question
from avem.tools.prefs.formats import mp4_of, read_rows
from avem.train.data.rows import read_instructions

RATINGS = (
    "What it names is in the clip and explains the emotion",
    "What it names is in the clip but does not explain the emotion",
    "What it names is not in the clip",
)
"""The options for rating an answer of preference data; the right one depends on the kind of answer."""
ANSWERS = {"chosen": 0, "rejected_video_relevant": 1, "rejected_emotion_relevant": 2}
"""Kinds of answers that are rated, with the right rating."""
INSTRUCTION_RATINGS = ("All of it is true of the clip", "A part of it is true", "It is wrong")
"""The options for rating the answer of an instruction row; the first is expected."""
CHECK = "To show that you read with care, choose the {} option here."

PRETEST = "pretest"
"""Group of the items that test an annotator before the survey (B.2)."""
NO_ANSWER = -1
"""`expected` of an item without a right answer, such as a preference between descriptions."""


@dataclass(frozen=True, slots=True)
class SurveyItem:
    """One question to the annotators."""

    id: str
    group: str
    """Row of the table of results: the task, or the kind of answer."""
    video: str
    question: str
    response: str
    """The answer to rate; empty where the options themselves are the answers."""
    ask: str
    choices: tuple[str, ...]
    expected: int
    """Index of the right choice, or `NO_ANSWER`; hidden from annotators."""
    source: str = ""
    """The question or row that it is from."""
    attention: bool = False
    """A check of attention, not a question of ours."""
    subtitle: str = ""
    """English subtitle of the clip's speech; empty where none is shown."""
    models: tuple[str, ...] = ()
    """Who wrote each choice, where choices are models' descriptions; hidden from annotators."""
    flags: bool = True
    """Whether annotators can say that several options are right, or that something is wrong."""


Entry = Question | PreferenceRow | InstructionRow
"""What a survey asks about."""


def read_source(path: Path) -> Sequence[Entry]:
    """The questions of a benchmark, preference rows, or instruction rows.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is neither.
    """
    if not path.is_file():
        raise MissingFileError(f"There is no file {path}; give a benchmark or preference rows.")
    if path.suffix == ".json" and '"choices"' in read_text(path)[:20000]:
        return read_questions(path)
    if is_instructions(path):
        return read_instructions(path)
    return read_rows(path)


def is_instructions(path: Path) -> bool:
    """Whether the first line of a file is an instruction row: it has an answer, and no chosen one."""
    try:
        first = parse_json(read_text(path).lstrip().partition("\n")[0], str(path))
    except DataError:
        return False
    return isinstance(first, dict) and "answer" in first and "chosen" not in first


def items_of(source: Entry) -> list[SurveyItem]:
    """What is asked about a question, about an instruction row's answer, or about each answer of a preference row."""
    if isinstance(source, InstructionRow):
        return [
            SurveyItem(
                opaque_id(source.row_id, source.task),
                source.task,
                mp4_of(source.clip_id),
                source.question,
                source.answer,
                "What is true of this answer?",
                INSTRUCTION_RATINGS,
                0,
                source.row_id,
            )
        ]
    if isinstance(source, Question):
        expected = [choice[1] for choice in source.choices].index(source.answer)
        ask = "Which answer is right?"
        return [
            SurveyItem(
                source.id, source.task, source.video, source.question, "", ask, source.choices, expected, source.id
            )
        ]
    video = str(source.provenance.get("path") or mp4_of(source.clip_id))
    return [
        SurveyItem(
            opaque_id(source.row_id, kind),
            kind,
            video,
            source.question,
            getattr(source, kind),
            "What is true of this answer?",
            RATINGS,
            expected,
            source.row_id,
        )
        for kind, expected in ANSWERS.items()
    ]


def opaque_id(source: str, group: str) -> str:
    """An id that does not reveal the expected answer in the page's source."""
    return f"i{json_sha256([source, group])[:12]}"


def attention_checks(verified: Path | None, taken: Sequence[SurveyItem]) -> list[SurveyItem]:
    """Attention checks: verified questions if there are some, otherwise instructions to choose a certain option.

    Args:
        verified: A benchmark whose questions are known to be right.
        taken: The survey's own items, which are never checks.
    """
    if verified is not None:
        found = [item for question in read_questions(verified) for item in items_of(question)]
        own = {item.id for item in taken}
        known = [item for item in found if item.id not in own]
        return [replace(item, id=opaque_id(item.id, "attention"), group="attention", attention=True) for item in known]
    choices = ("The first option", "The second option", "The last option")
    return [
        SurveyItem(
            opaque_id(word, "attention"),
            "attention",
            "",
            CHECK.format(word),
            "",
            "Which option do you choose?",
            choices,
            number,
            attention=True,
        )
        for number, word in enumerate(("first", "second", "last"))
    ]


BUILT_IN = (
    ("A colleague hears that the prize she had been promised goes to someone else. She smiles briefly and looks down.",
     ("She is glad for the other", "She is disappointed", "She is bored", "She is surprised in a good way"), 1),
    ("He checks the locked door a third time, speaks fast and keeps looking over his shoulder.",
     ("He is angry", "He is sad", "He is afraid", "He is content"), 2),
    ("Her voice gets quieter and quieter, she pauses often, and her eyes are wet.",
     ("She is sad", "She is disgusted", "She is amused", "She is proud"), 0),
    ("He laughs, but his arms are crossed, his jaw is tight and he does not look at the speaker.",
     ("He finds it funny", "He is at ease", "He is grateful", "He hides that he is annoyed"), 3),
    ("She lifts her upper lip, wrinkles her nose and pushes the plate away.",
     ("She is afraid of the food", "She is disgusted", "She is full and happy", "She is curious"), 1),
    ("His brows shoot up, his mouth opens, and he steps back when the lights go on and everybody shouts.",
     ("He is surprised", "He is ashamed", "He is angry", "He is tired"), 0),
)  # fmt: skip
"""A short test in our own words of how well somebody tells feelings from behaviour: situation, options, right one."""


def pretest_items(source: str) -> list[SurveyItem]:
    """Items that open every booklet and test an annotator's eye for emotion.

    Args:
        source: `builtin`, or a JSON Lines file of objects with `question`, `choices` (a list) and `answer` (an index).

    Raises:
        MissingFileError: There is no such file.
        DataError: It is something else.
    """
    if source == "builtin":
        found: Sequence[tuple[str, tuple[str, ...], int]] = BUILT_IN
    elif not Path(source).is_file():
        raise MissingFileError(f"There is no pre-test {source}; name a JSON Lines file with --pretest, or builtin.")
    else:
        found = read_json_lines(Path(source), _pretest_entry)
    if not found:
        raise DataError(f"{source} holds no questions; leave out --pretest, or give a file with some.")
    return [
        SurveyItem(
            opaque_id(text, PRETEST), PRETEST, "", text, "", "What is most likely?", choices, answer, flags=False
        )
        for text, choices, answer in found
    ]


def _pretest_entry(entry: Mapping[str, object]) -> tuple[str, tuple[str, ...], int]:
    text, choices, answer = entry["question"], entry["choices"], entry["answer"]
    if not isinstance(text, str) or not isinstance(choices, list) or not all(isinstance(c, str) for c in choices):
        raise ValueError("question should be text, and choices a list of texts")
    if type(answer) is not int or not 0 <= answer < len(choices):
        raise ValueError(f"answer should be the index of a choice, 0 to {len(choices) - 1}")
    return text, tuple(choices), answer


def read_subtitles(path: Path | None) -> dict[str, str]:
    """Read English subtitles of clips: CSV with the columns `video` and `subtitle`.

    Args:
        path: As `avem emorealm languages` writes it; None for no subtitles.

    Raises:
        DataError: A column is missing.
    """
    if path is None:
        return {}
    rows = read_sheet(path, ("video", "subtitle"), {"path": "video"})
    if not rows or not {"video", "subtitle"} <= rows[0].keys():
        raise DataError(f"{path} should be CSV with the columns video and subtitle.")
    return {row["video"]: row["subtitle"].strip() for row in rows if row["subtitle"].strip()}


def with_subtitle(item: SurveyItem, subtitles: Mapping[str, str]) -> SurveyItem:
    """The item with its clip's subtitle, if there is one."""
    found = subtitles.get(item.video)
    return replace(item, subtitle=found) if found else item
