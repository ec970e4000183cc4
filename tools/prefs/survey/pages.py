"""A survey for annotators, as pages or Label Studio tasks: is what models wrote right? (3.3, B.2, Table 6)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from avem.errors import MissingFileError, SettingError
from avem.evaluate.emorealm import read_questions
from avem.files import json_sha256, replace_directory, write_atomic
from avem.guards.inside import inside
from avem.guards.output_kinds import SURVEY
from avem.guards.outputs import folder_target
from avem.reading import read_text
from avem.records import PreferenceRow, Question
from avem.sealed.checksums import seal
from avem.text.escaping import script_json, xml_text
from avem.tools.prefs.formats import mp4_of, read_rows

RATINGS = (
    "What it names is in the clip and explains the emotion",
    "What it names is in the clip but does not explain the emotion",
    "What it names is not in the clip",
)
"""The options for rating an answer of preference data; the right one depends on the kind of answer."""
ANSWERS = {"chosen": 0, "rejected_video_relevant": 1, "rejected_emotion_relevant": 2}
"""Kinds of answers that are rated, with the right rating."""
CHECK = "To show that you read with care, choose the {} option here."


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
    """Index of the right choice; hidden from annotators."""
    source: str = ""
    """The question or row that it is from."""
    attention: bool = False
    """A check of attention, not a question of ours."""


@dataclass(frozen=True, kw_only=True)
class SurveyOptions:
    """How a survey is made."""

    source: Path
    """A benchmark file or preference rows."""
    out: Path
    media: Path | None = None
    """Folder of the clips; those asked about are copied into the survey."""
    votes: int = 3
    """Annotators per item."""
    per_booklet: int = 40
    """Items per annotator, attention checks included."""
    attention_every: int = 10
    """One of so many items is an attention check; 0: none."""
    verified: Path | None = None
    """Benchmark questions that are known to be right, used as attention checks."""
    sample: int | None = None
    """At most so many questions or rows, drawn by the seed."""
    label_studio: bool = False
    """Write Label Studio tasks instead of the page."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that make no survey.

        Raises:
            SettingError: Names the option.
        """
        if self.votes < 1 or self.per_booklet < 2:
            raise SettingError("--votes must be at least 1 and --per-booklet at least 2.")
        if self.attention_every == 1 or self.attention_every < 0:
            raise SettingError("--attention-every must be at least 2, or 0 for no checks.")


def make_survey(options: SurveyOptions) -> list[SurveyItem]:
    """Write a survey's folder: `index.html` with `media/`, or `tasks.json` with `labels.xml`, and `key.json`.

    Every item lies in as many booklets as it gets votes. The page holds no right answers; they are in `key.json`,
    which stays at home.

    Returns:
        The items, attention checks among them.

    Raises:
        MissingFileError: The source, or a clip, is not there.
        DataError: The source is neither a benchmark nor preference rows, or names a clip outside `media`.
        SettingError: The output folder holds something that is not a survey.
    """
    reads = [options.source, options.verified]
    folder_target(options.out, SURVEY, reads=reads, roots=[options.media])
    rng = np.random.default_rng(options.seed)
    items = _sampled_items(options, rng)
    checks = _checks(options, items)
    booklets = _booklets(options, items, checks, rng)
    asked = {item.id: item for item in (*items, *checks)}
    survey = json_sha256([asdict(item) for item in asked.values()])[:12]
    key = {
        "survey": survey,
        "source": str(options.source),
        "votes": options.votes,
        "items": [asdict(item) for item in asked.values()],
        "booklets": booklets,
    }

    def fill(folder: Path) -> None:
        write_atomic(folder / "key.json", json.dumps(seal(key), indent=1))
        videos = _copy_media(asked.values(), options.media, folder) if options.media else {}
        shown = {name: _shown(item, videos) for name, item in asked.items()}
        if options.label_studio:
            _write_label_studio(folder, survey, booklets, shown)
        else:
            write_atomic(folder / "index.html", _page({"survey": survey, "items": shown, "booklets": booklets}))

    replace_directory(options.out, fill, SURVEY, reads=reads)
    return list(asked.values())


def _sampled_items(options: SurveyOptions, rng: np.random.Generator) -> list[SurveyItem]:
    source = read_source(options.source)
    picked = sorted(rng.permutation(len(source))[: options.sample].tolist())
    return [item for number in picked for item in items_of(source[number])]


def read_source(path: Path) -> Sequence[Question | PreferenceRow]:
    """The questions of a benchmark, or preference rows.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is neither.
    """
    if not path.is_file():
        raise MissingFileError(f"There is no file {path}; give a benchmark or preference rows.")
    if path.suffix == ".json" and '"choices"' in read_text(path)[:20000]:
        return read_questions(path)
    return read_rows(path)


def items_of(source: Question | PreferenceRow) -> list[SurveyItem]:
    """What is asked about a question, or about each answer of a row."""
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
            _opaque(source.row_id, kind),
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


def _checks(options: SurveyOptions, items: Sequence[SurveyItem]) -> list[SurveyItem]:
    """Attention checks: verified questions if there are some, otherwise instructions to choose a certain option."""
    if not options.attention_every:
        return []
    if options.verified is not None:
        found = [item for question in read_questions(options.verified) for item in items_of(question)]
        taken = {item.id for item in items}
        known = [item for item in found if item.id not in taken]
        return [replace(item, id=_opaque(item.id, "attention"), group="attention", attention=True) for item in known]
    choices = ("The first option", "The second option", "The last option")
    return [
        SurveyItem(
            _opaque(word, "attention"),
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


def _opaque(source: str, group: str) -> str:
    """An id that does not reveal the expected answer in the page's source."""
    return f"i{json_sha256([source, group])[:12]}"


def _booklets(
    options: SurveyOptions, items: Sequence[SurveyItem], checks: Sequence[SurveyItem], rng: np.random.Generator
) -> list[list[str]]:
    """Cut as many orders of all items as there are votes into booklets, and put checks between."""
    every = options.attention_every if checks else 0
    size = max(options.per_booklet - (options.per_booklet // every if every else 0), 1)
    booklets: list[list[str]] = []
    for _ in range(options.votes):
        order = [items[number].id for number in rng.permutation(len(items)).tolist()]
        for start in range(0, len(order), size):
            waiting = iter(rng.permutation(len(checks)).tolist())
            booklet: list[str] = []
            for name in order[start : start + size]:
                booklet.append(name)
                if every and len(booklet) % every == every - 1 and (check := next(waiting, None)) is not None:
                    booklet.append(checks[check].id)
            booklets.append(booklet)
    return booklets


def _copy_media(items: Iterable[SurveyItem], media: Path, folder: Path) -> dict[str, str]:
    """Copy the clips that are asked about; returns their paths in the survey."""
    videos: dict[str, str] = {}
    for item in items:
        if not item.video or item.video in videos:
            continue
        source = inside(media, item.video, item.source or item.id)
        if not source.is_file():
            raise MissingFileError(f"There is no clip {source}; --media names the folder that {item.video} is in.")
        target = inside(folder / "media", item.video, item.source or item.id)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        videos[item.video] = f"media/{item.video}"
    return videos


def _shown(item: SurveyItem, videos: Mapping[str, str]) -> dict[str, object]:
    """What annotators see of an item: neither its right answer nor its kind."""
    known = {"id": item.id, "question": item.question, "response": item.response, "ask": item.ask}
    return {**known, "choices": item.choices, "video": videos.get(item.video, item.video)}


def _page(data: Mapping[str, object]) -> str:
    template = (files("avem.tools.prefs") / "templates" / "survey.html").read_text(encoding="utf-8")
    return template.replace("/*DATA*/", script_json(data))


def _write_label_studio(
    folder: Path, survey: str, booklets: Sequence[Sequence[str]], shown: Mapping[str, Mapping[str, object]]
) -> None:
    """One task an item and booklet, and the labelling interface that shows it."""
    options = {
        name: [{"value": str(index), "html": xml_text(text)} for index, text in enumerate(_choices(item))]
        for name, item in shown.items()
    }
    tasks = [
        {"data": {**shown[name], "survey": survey, "booklet": number, "item": name, "options": options[name]}}
        for number, booklet in enumerate(booklets, start=1)
        for name in booklet
    ]
    write_atomic(folder / "tasks.json", json.dumps(tasks, indent=1))
    text = (files("avem.tools.prefs") / "templates" / "labels.xml").read_text(encoding="utf-8")
    write_atomic(folder / "labels.xml", text)


def _choices(shown: Mapping[str, object]) -> tuple[str, ...]:
    choices = shown["choices"]
    return tuple(choices) if isinstance(choices, list | tuple) else ()
