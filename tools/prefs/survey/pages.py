"""A survey for annotators, as pages or Label Studio tasks: is what models wrote right? (3.3, B.2, Table 6)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from avem.errors import SettingError
from avem.files import json_sha256, replace_directory, write_atomic
from avem.guards.output_kinds import SURVEY
from avem.guards.outputs import folder_target
from avem.sealed.checksums import seal
from avem.sealed.files import plain
from avem.text.escaping import script_json, xml_text
from avem.text.pages import page_style
from avem.tools.prefs.survey.clips import SurveyClips, find_clips
from avem.tools.prefs.survey.items import (
    SurveyItem,
    attention_checks,
    items_of,
    pretest_items,
    read_source,
    read_subtitles,
    with_subtitle,
)


@dataclass(frozen=True, kw_only=True)
class SurveyOptions:
    """How a survey is made."""

    source: Path
    """A benchmark file or preference rows."""
    out: Path
    media: Path | None = None
    """Folder of the clips; those asked about are copied into the survey."""
    cache: Path | None = None
    """A store that names the clips' files, where no folder is given; those that are there are copied."""
    votes: int = 3
    """Annotators per item."""
    per_booklet: int = 40
    """Items per annotator, attention checks included."""
    attention_every: int = 10
    """One of so many items is an attention check; 0: none."""
    verified: Path | None = None
    """Benchmark questions that are known to be right, used as attention checks."""
    pretest: str = ""
    """Test of annotators that opens every booklet, see `pretest_items`; empty for none."""
    subtitles: Path | None = None
    """English subtitles of clips, see `read_subtitles`."""
    sample: int | None = None
    """At most so many questions, rows or clips, drawn by the seed."""
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


@dataclass(frozen=True, slots=True)
class Published:
    """A survey that was written."""

    items: Sequence[SurveyItem]
    """Those of the pre-test and attention checks among them."""
    blocks: int
    """What annotators are asked about, without those: rows, questions, or clips of a study."""
    clips: SurveyClips


def make_survey(options: SurveyOptions) -> Published:
    """Write a survey's folder: `index.html` with `media/`, or `tasks.json` with `labels.xml`, and `key.json`.

    Every item lies in as many booklets as it gets votes. The page holds no right answers; they are in `key.json`,
    which stays at home.

    Raises:
        MissingFileError: The source is not there, or none of the clips.
        DataError: The source is neither a benchmark nor preference rows, or names a clip outside `media`.
        SettingError: The output folder holds something that is not a survey.
    """
    rng = np.random.default_rng(options.seed)
    source = read_source(options.source)
    picked = sorted(rng.permutation(len(source))[: options.sample].tolist())
    blocks = [[item] for number in picked for item in items_of(source[number])]
    return publish(blocks, options, "rows", rng, [options.source, options.verified])


def publish(
    blocks: Sequence[Sequence[SurveyItem]],
    options: SurveyOptions,
    kind: str,
    rng: np.random.Generator,
    reads: Sequence[Path | None],
) -> Published:
    """Write the folder of a survey of any kind.

    Args:
        blocks: Items; those of a block stay together in a booklet, in their order.
        options: Where it goes, and how it is cut into booklets.
        kind: What the votes decide: `rows`, `subtasks` or `study`.
        rng: Source of the order of items.
        reads: Files that the survey is made from, which are never overwritten.

    Raises:
        MissingFileError: None of the clips is there.
        DataError: The items name a clip outside `media`.
        SettingError: The output folder holds something that is not a survey.
    """
    folder_target(options.out, SURVEY, reads=reads, roots=[options.media])
    subtitles = read_subtitles(options.subtitles)
    blocks = [[with_subtitle(item, subtitles) for item in block] for block in blocks]
    items = [item for block in blocks for item in block]
    pretest = pretest_items(options.pretest) if options.pretest else []
    checks = attention_checks(options.verified, items) if options.attention_every else []
    booklets = _booklets(options, blocks, checks, rng)
    booklets = [[item.id for item in pretest] + booklet for booklet in booklets]
    asked = {item.id: item for item in (*pretest, *items, *checks)}
    clips = find_clips(asked.values(), options.media, options.cache)
    survey = json_sha256([asdict(item) for item in asked.values()])[:12]
    key = {
        "survey": survey,
        "kind": kind,
        "source": str(options.source),
        "votes": options.votes,
        "items": [asdict(item) for item in asked.values()],
        "booklets": booklets,
    }

    def fill(folder: Path) -> None:
        write_atomic(folder / "key.json", json.dumps(seal(plain(key)), indent=1))
        videos = clips.copy(folder)
        shown = {name: _shown(item, videos) for name, item in asked.items()}
        if options.label_studio:
            _write_label_studio(folder, survey, booklets, shown)
        else:
            write_atomic(folder / "index.html", _page({"survey": survey, "items": shown, "booklets": booklets}))

    replace_directory(options.out, fill, SURVEY, reads=reads)
    return Published(tuple(asked.values()), len(blocks), clips)


def _booklets(
    options: SurveyOptions,
    blocks: Sequence[Sequence[SurveyItem]],
    checks: Sequence[SurveyItem],
    rng: np.random.Generator,
) -> list[list[str]]:
    """Cut as many orders of all blocks as there are votes into booklets, and put checks between their items."""
    every = options.attention_every if checks else 0
    size = max(options.per_booklet - (options.per_booklet // every if every else 0), 1)
    per_booklet = max(size // max((len(block) for block in blocks), default=1), 1)
    booklets: list[list[str]] = []
    for _ in range(options.votes):
        order = [[item.id for item in blocks[number]] for number in rng.permutation(len(blocks)).tolist()]
        for start in range(0, len(order), per_booklet):
            waiting = iter(rng.permutation(len(checks)).tolist())
            booklet: list[str] = []
            for name in (name for block in order[start : start + per_booklet] for name in block):
                booklet.append(name)
                if every and len(booklet) % every == every - 1 and (check := next(waiting, None)) is not None:
                    booklet.append(checks[check].id)
            booklets.append(booklet)
    return booklets


def _shown(item: SurveyItem, videos: Mapping[str, str]) -> dict[str, object]:
    """What annotators see of an item: neither its right answer nor its kind."""
    known = {"id": item.id, "question": item.question, "response": item.response, "ask": item.ask}
    shown = {**known, "choices": item.choices, "video": videos.get(item.video, item.video)}
    return {**shown, "subtitle": item.subtitle, "flags": item.flags}


def _page(data: Mapping[str, object]) -> str:
    template = (files("avem.tools.prefs") / "templates" / "survey.html").read_text(encoding="utf-8")
    return template.replace("/*STYLE*/", page_style()).replace("/*DATA*/", script_json(data))


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
