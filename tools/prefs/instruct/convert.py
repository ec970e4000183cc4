"""Instruction rows without asking a model: of captions, EmoReAlM-style items, preference rows and MERR's JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from avem.errors import DataError, SettingError
from avem.evaluate.emorealm import read_questions
from avem.files import write_atomic, write_json_lines
from avem.guards.output_kinds import PREFS
from avem.guards.ownership import opened
from avem.records import Emotion, InstructionRow, Modality
from avem.tools.prefs.formats import read_rows
from avem.tools.prefs.instruct.captions import CaptionedClip, read_captions
from avem.tools.prefs.instruct.merr import TASKS as MERR_TASKS
from avem.tools.prefs.instruct.merr import labels_of, merr_rows, read_merr
from avem.tools.prefs.instruct.rows import caption_rows, chosen_row, emotion_row, question_row
from avem.tools.prefs.instruct.screen import CLIP, Screen
from avem.tools.prefs.instruct.sources import Source
from avem.tools.prefs.instruct.style import Style
from avem.tools.prefs.ledger import Ledger, Rejection
from avem.tools.prefs.steps.outputs import write_counts
from avem.tools.prefs.steps.steps import EMOTION_TASK, PLAIN_TASKS, check_tasks

OUTPUT = "instructions.jsonl"


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """What is converted, and what is checked."""

    source: Path
    out: Path
    kind: Source
    """See `recognise`."""
    style: Style = "letters"
    tasks: tuple[str, ...] = ()
    """Only rows of these tasks; all if empty."""
    clips: Path | None = None
    """A dataset that holds the clips."""
    dataset: str | None = None
    stores: tuple[Path, ...] = ()
    benchmarks: tuple[Path, ...] = ()
    split: str | None = None
    limit: int | None = None
    """At most so many entries, drawn by the seed."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what can't be converted.

        Raises:
            SettingError: Names the option.
        """
        known = {"captions": PLAIN_TASKS, "merr": MERR_TASKS}.get(self.kind)
        if known:
            check_tasks(self.tasks, known)
        if self.kind == "merr" and self.clips is None and not self.stores:
            raise SettingError(
                f"{self.source} names samples and holds no clips; say where the clips are with --clips FOLDER or "
                "--cache STORE."
            )
        if self.kind == "items" and not self.benchmarks:
            raise SettingError(
                f"{self.source} holds benchmark questions, which must not be trained on by mistake; name the benchmark "
                "that you will evaluate on with --benchmark, and its clips are left out."
            )


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion came to."""

    rows: tuple[InstructionRow, ...]
    ledger: Ledger
    screen: Screen
    homeless: tuple[str, ...]
    """Entries of the source without a clip."""
    entries: int


Draft = tuple[str, Callable[[], "str | None"], Callable[[str], list[InstructionRow]]]
"""An entry's name, how its clip is found, and its rows on that clip."""


def convert(options: ConvertOptions) -> Converted:
    """Make instruction rows; nothing is written.

    Raises:
        MissingFileError: The source, the clips or a store is not there.
        DataError: The source is not what it should be, or none of its entries has a clip.
    """
    ledger = Ledger()
    screen = Screen(options.stores, options.clips, options.dataset, options.benchmarks, options.split)
    drafts = list(_drafts(options, screen, ledger))
    picked = sorted(np.random.default_rng(options.seed).permutation(len(drafts))[: options.limit].tolist())
    rows: list[InstructionRow] = []
    homeless: list[str] = []
    for name, find, make in (drafts[number] for number in picked):
        try:
            clip_id, why = find(), "no clip has its name"
        except DataError as error:
            clip_id, why = None, str(error)
        if clip_id is None:
            homeless.append(name)
            ledger.reject(Rejection("", CLIP, why, "item", name))
            continue
        rows += [row for row in make(clip_id) if not options.tasks or row.task in options.tasks]
    ledger.clips["entries read"] = len(picked)
    ledger.clips["entries with a clip"] = len(picked) - len(homeless)
    if homeless and len(homeless) == len(picked):
        where = " and ".join(map(str, (*([options.clips] if options.clips else []), *options.stores))) or "--cache"
        raise DataError(
            f"None of the {len(picked)} entries of {options.source} has a clip in {where} (the first is "
            f"{homeless[0]}); name the clips with --clips or --cache."
        )
    for row in rows:
        ledger.counts[row.task]["written"] += 1
    kept = screen.keep(rows, ledger)
    if rows and not kept and len(screen.leaked) == len({row.clip_id for row in rows}):
        raise DataError(f"All clips of {options.source} are in the benchmark; training on them would spoil it.")
    ledger.clips["in the result"] = len({row.clip_id for row in kept})
    return Converted(tuple(kept), ledger, screen, tuple(homeless), len(picked))


def write_converted(options: ConvertOptions, found: Converted) -> Path:
    """Write `instructions.jsonl`, `rejected.jsonl`, the counts and the settings; returns the folder.

    Raises:
        SettingError: The folder holds something else, or another run writes into it.
        WriteError: It can't be written.
    """
    reads = [options.source, *options.benchmarks, *options.stores]
    with opened(options.out, PREFS, reads=reads, roots=[options.clips]):
        settings = {**asdict(options), "root": options.source, "model": ""}
        write_atomic(options.out / "settings.json", json.dumps(settings, indent=1, default=str) + "\n")
        found.ledger.write(options.out / "rejected.jsonl")
        write_counts(found.ledger, options.out)
        write_json_lines(options.out / OUTPUT, (row.to_json() for row in found.rows))
    return options.out


def _drafts(options: ConvertOptions, screen: Screen, ledger: Ledger) -> Iterator[Draft]:
    if options.kind == "captions":
        for captioned in read_captions(options.source):
            yield captioned.clip_id, _always(captioned.clip_id), _of_captions(captioned)
    elif options.kind == "prefs":
        for row in read_rows(options.source):
            screen.note(row.clip_id, str(row.provenance.get("path") or ""), str(row.provenance.get("sha256") or ""))
            yield row.row_id, _always(row.clip_id), lambda _, row=row: [chosen_row(row)]  # type: ignore[misc]
    elif options.kind == "items":
        questions = read_questions(options.source)
        clips = screen.clips_of(questions)
        for question in questions:
            found = clips.get(question.id)
            if found:
                screen.note(found, question.video)
            made = lambda clip, asked=question: [question_row(asked, clip, options.style)]  # noqa: E731
            yield question.id, _always(found), made
    else:
        yield from _merr_drafts(options, screen, ledger)


def _merr_drafts(options: ConvertOptions, screen: Screen, ledger: Ledger) -> Iterator[Draft]:
    entries = read_merr(options.source)
    labels = labels_of(entries)
    for entry in entries:
        if entry.fault:
            ledger.reject(Rejection("", "merr", entry.fault, "item", entry.name))
            continue
        yield (
            entry.name,
            lambda name=entry.name: screen.named(name),  # type: ignore[misc]
            lambda clip, entry=entry: merr_rows(entry, clip, labels),  # type: ignore[misc]
        )


def _always(clip_id: str | None) -> Callable[[], str | None]:
    return lambda: clip_id


def _of_captions(captioned: CaptionedClip) -> Callable[[str], list[InstructionRow]]:
    return lambda _: plain_rows(captioned, PLAIN_TASKS)


def plain_rows(captioned: CaptionedClip, tasks: Sequence[str]) -> list[InstructionRow]:
    """A clip's captions as they are, and its label, as rows.

    Args:
        captioned: The clip.
        tasks: Which of `caption` and `emotion`.
    """
    rows = caption_rows(captioned.clip_id, captioned.captions) if "caption" in tasks else []
    if EMOTION_TASK in tasks and captioned.emotion is not None and captioned.captions:
        sides = set(captioned.captions)
        modality = Modality.AUDIOVISUAL if len(sides) > 1 else next(iter(sides))
        rows.append(emotion_row(captioned.clip_id, str(captioned.emotion), map(str, Emotion), modality))
    return rows
