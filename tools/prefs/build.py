"""`avem prefs build` and `avem emorealm build`: from a labelled dataset to preference rows or a benchmark."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from avem.endpoint.chat import ChatClient
from avem.errors import DataError
from avem.extract import read_dataset
from avem.files import write_atomic, write_json_lines
from avem.guards.output_kinds import PREFS
from avem.guards.ownership import opened
from avem.guards.secrets import mask_json
from avem.records import Clip, Emotion
from avem.tools.prefs.asking.batch import Batch
from avem.tools.prefs.asking.engine import Engine
from avem.tools.prefs.asking.journal import Journal
from avem.tools.prefs.asking.prompts import load_prompts
from avem.tools.prefs.instruct.captions import CaptionedClip, read_captions
from avem.tools.prefs.instruct.convert import plain_rows
from avem.tools.prefs.instruct.rows import description_row, question_row
from avem.tools.prefs.instruct.screen import Screen
from avem.tools.prefs.ledger import Ledger, Rejection
from avem.tools.prefs.options import BuildOptions, Kind
from avem.tools.prefs.steps.answers import describe, write_answers, write_descriptions
from avem.tools.prefs.steps.outputs import (
    account_for,
    balanced_items,
    balanced_rows,
    to_question,
    write_captions,
    write_counts,
)
from avem.tools.prefs.steps.pipeline import BatchPending, ClipState, Item, Pipeline
from avem.tools.prefs.steps.steps import DESCRIPTION_TASK

OUTPUT: dict[Kind, str] = {
    "prefs": "preferences.jsonl",
    "emorealm": "emorealm_v1.json",
    "instruct": "instructions.jsonl",
}


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a run came to."""

    out: Path
    rows: int
    """Preference rows, questions, or instruction rows."""
    ledger: Ledger
    tokens: tuple[int, int]
    """Prompt and completion tokens of every reply in the log."""
    waiting: str = ""
    """Why the result is not there yet; empty once it is."""
    batch_files: tuple[Path, ...] = ()
    leaked: dict[str, Path] = field(default_factory=dict)
    """Clips that were left out because they are in a benchmark, with the benchmark."""


def build(options: BuildOptions) -> BuildResult:
    """Build preference rows, a benchmark, or instruction rows; a stopped run resumes and pays for nothing twice.

    Writes into `options.out`: `preferences.jsonl`, `emorealm_v1.json` or `instructions.jsonl`, `captions.jsonl`,
    `rejected.jsonl` (what was left out and why), `counts.json` and `counts.md` (how many were left after each step),
    `settings.json` and `log.jsonl` (every request and reply).

    Raises:
        MissingFileError: The dataset's or the prompts' folder is not there.
        DataError: The dataset has no labelled clips, or a prompt is not fit for its step.
        SettingError: An option is wrong, the folder holds something else, or another run writes into it.
        EndpointError: The endpoint refuses the key or the model, or is down.
    """
    prompts = load_prompts(options.prompts)
    clips, source = select_clips(options)
    ledger = Ledger()
    screen = Screen(options.stores, benchmarks=options.benchmarks, split=options.split)
    clips = screen.drop_leaks(clips, ledger)
    settings = options.settings()
    reads = [options.prompts, *options.stores, *options.benchmarks, *([options.root] if options.root.is_file() else [])]
    with (
        opened(options.out, PREFS, reads=reads, roots=[options.root]),
        Journal(options.out / "log.jsonl") as journal,
    ):
        known = json.loads(json.dumps(asdict(options) | {"tasks": options.all_tasks}, default=str))
        settings_json = json.dumps(mask_json(known), indent=1)
        write_atomic(options.out / "settings.json", settings_json + "\n")
        batch = Batch(options.out / "batch", journal) if options.batch else None
        further = {} if options.response_format == "none" else {"response_format": {"type": options.response_format}}

        async def run() -> int:
            async with AsyncExitStack() as stack:
                clients = {name: await stack.enter_async_context(ChatClient(one)) for name, one in settings.items()}
                engine = Engine(
                    clients,
                    prompts,
                    journal,
                    seed=options.seed,
                    options=further,
                    temperature=options.temperature,
                    batch=batch,
                )
                pipeline = Pipeline(engine, ledger, options.root, options.media)
                return await _run(pipeline, clips, source, options, screen)

        waiting, rows = "", 0
        try:
            rows = asyncio.run(run())
        except BatchPending as pending:
            waiting = str(pending)
        finally:
            ledger.write(options.out / "rejected.jsonl")
            write_counts(ledger, options.out)
        written = tuple(batch.written) if batch else ()
        return BuildResult(options.out, rows, ledger, journal.tokens, waiting, written, screen.leaked)


def select_clips(options: BuildOptions) -> tuple[list[Clip], list[Clip]]:
    """The clips to work on, and all clips of the split they come from.

    Raises:
        DataError: None has a label.
    """
    if options.root.is_file():
        clips = [captioned.clip for captioned in read_captions(options.root)]
    else:
        clips = read_dataset(options.root, options.dataset)
    source = [clip for clip in clips if options.split in (None, clip.split)]
    if not any(clip.emotion for clip in source):
        where = f" of the split {options.split}" if options.split else ""
        raise DataError(f"{options.root} has no clips{where} with one of the seven emotion labels.")
    picked = np.random.default_rng(options.seed).permutation(len(source))[: options.limit].tolist()
    return [source[number] for number in sorted(picked)], source


async def _run(
    pipeline: Pipeline, clips: Sequence[Clip], source: Sequence[Clip], options: BuildOptions, screen: Screen
) -> int:
    ledger, states = pipeline.ledger, []
    ledger.clips["read"] = len(clips)
    for clip in clips:
        if clip.emotion is None:
            said = f"the label {clip.emotions_raw!r} is none of the seven" if clip.emotions_raw else "it has no label"
            ledger.reject(Rejection(clip.clip_id, "read", said, "clip"))
        else:
            states.append(ClipState(clip, clip.emotion))
    ledger.clips["with a label"] = len(states)
    if options.root.is_file():
        take_captions(states, read_captions(options.root))
    else:
        await pipeline.look_into(states)
        await pipeline.caption(states)
    ledger.clips["with a caption"] = sum(bool(state.captions) for state in states)
    write_captions(states, options.out)
    kept = await pipeline.predict(states)
    ledger.clips["whose caption gives the label"] = len(kept)
    write_captions(states, options.out)
    items = await pipeline.write_questions(kept, options.all_tasks)
    items = await pipeline.drop_guessed(items, options.guessers)
    labels = [clip.emotion for clip in source if clip.emotion]
    if options.kind == "prefs":
        rows = await write_answers(pipeline, items)
        if "description" in options.all_tasks:
            rows += await write_descriptions(pipeline, kept, options.seed)
        rows = balanced_rows(sorted(rows, key=lambda row: row.row_id), labels, ledger, options)
        write_json_lines(options.out / OUTPUT["prefs"], (row.to_json() for row in rows))
        used = [row.clip_id for row in rows]
    elif options.kind == "instruct":
        used = await _write_instructions(pipeline, kept, items, labels, options, screen)
    else:
        items = balanced_items(items, labels, ledger, options)
        entries = [to_question(item, options.seed).to_json() for item in items]
        write_atomic(options.out / OUTPUT["emorealm"], json.dumps(entries, ensure_ascii=False, indent=1) + "\n")
        used = [item.state.clip.clip_id for item in items]
    ledger.clips["in the result"] = len(set(used))
    account_for(kept, set(used), ledger)
    return len(used)


async def _write_instructions(
    pipeline: Pipeline,
    states: Sequence[ClipState],
    items: Sequence[Item],
    labels: Sequence[Emotion],
    options: BuildOptions,
    screen: Screen,
) -> list[str]:
    """Questions, descriptions and plain rows as `instructions.jsonl`; returns the clips of its rows."""
    ledger, tasks = pipeline.ledger, options.all_tasks
    described = await describe(pipeline, states) if DESCRIPTION_TASK in tasks else []
    balanced = balanced_items(items, labels, ledger, options)
    for item in balanced:  # what is final is counted below, after the checks
        ledger.counts[item.task]["final"] -= 1
    rows = [question_row(to_question(item, options.seed), item.state.clip.clip_id, options.style) for item in balanced]
    rows += [description_row(state.clip.clip_id, text) for state, text in described]
    for state in states:
        clip = CaptionedClip(state.clip.clip_id, state.emotion, state.captions, state.predicted)
        plain = plain_rows(clip, tasks)
        for row in plain:
            ledger.counts[row.task]["written"] += 1
        rows += plain
    kept = screen.keep(rows, ledger)
    write_json_lines(options.out / OUTPUT["instruct"], (row.to_json() for row in kept))
    return [row.clip_id for row in kept]


def take_captions(states: Sequence[ClipState], captioned: Sequence[CaptionedClip]) -> None:
    """Give clips the captions, and the emotions told from them, of an earlier build."""
    known = {clip.clip_id: clip for clip in captioned}
    for state in states:
        found = known[state.clip.clip_id]
        state.captions, state.predicted = dict(found.captions), dict(found.predicted)
        state.sides = set(found.captions)
