"""`avem prefs build` and `avem emorealm build`: from a labelled dataset to preference rows or a benchmark."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from avem.endpoint.chat import ChatClient
from avem.errors import DataError
from avem.extract import read_dataset
from avem.files import write_atomic, write_json_lines
from avem.guards.output_kinds import PREFS
from avem.guards.ownership import opened
from avem.guards.secrets import mask_json
from avem.records import Clip
from avem.tools.prefs.asking.batch import Batch
from avem.tools.prefs.asking.engine import Engine
from avem.tools.prefs.asking.journal import Journal
from avem.tools.prefs.asking.prompts import load_prompts
from avem.tools.prefs.ledger import Ledger, Rejection
from avem.tools.prefs.options import BuildOptions, Kind
from avem.tools.prefs.steps.answers import write_answers, write_descriptions
from avem.tools.prefs.steps.outputs import (
    account_for,
    balanced_items,
    balanced_rows,
    to_question,
    write_captions,
    write_counts,
)
from avem.tools.prefs.steps.pipeline import BatchPending, ClipState, Pipeline

OUTPUT: dict[Kind, str] = {"prefs": "preferences.jsonl", "emorealm": "emorealm_v1.json"}


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a run came to."""

    out: Path
    rows: int
    """Preference rows, or questions."""
    ledger: Ledger
    tokens: tuple[int, int]
    """Prompt and completion tokens of every reply in the log."""
    waiting: str = ""
    """Why the result is not there yet; empty once it is."""
    batch_files: tuple[Path, ...] = ()


def build(options: BuildOptions) -> BuildResult:
    """Build preference rows or a benchmark; a run that was stopped resumes and pays for nothing twice.

    Writes into `options.out`: `preferences.jsonl` or `emorealm_v1.json`, `captions.jsonl`, `rejected.jsonl` (what was
    left out and why), `counts.json` and `counts.md` (how many were left after each step), `settings.json` and
    `log.jsonl` (every request and reply).

    Raises:
        MissingFileError: The dataset's or the prompts' folder is not there.
        DataError: The dataset has no labelled clips, or a prompt is not fit for its step.
        SettingError: An option is wrong, the folder holds something else, or another run writes into it.
        EndpointError: The endpoint refuses the key or the model, or is down.
    """
    prompts = load_prompts(options.prompts)
    clips, source = select_clips(options)
    ledger = Ledger()
    settings = options.settings()
    with (
        opened(options.out, PREFS, reads=[options.prompts], roots=[options.root]),
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
                return await _run(Pipeline(engine, ledger, options.root, options.media), clips, source, options)

        waiting, rows = "", 0
        try:
            rows = asyncio.run(run())
        except BatchPending as pending:
            waiting = str(pending)
        finally:
            ledger.write(options.out / "rejected.jsonl")
            write_counts(ledger, options.out)
        return BuildResult(options.out, rows, ledger, journal.tokens, waiting, tuple(batch.written) if batch else ())


def select_clips(options: BuildOptions) -> tuple[list[Clip], list[Clip]]:
    """The clips to work on, and all clips of the split they come from.

    Raises:
        DataError: None has a label.
    """
    clips = read_dataset(options.root, options.dataset)
    source = [clip for clip in clips if options.split in (None, clip.split)]
    if not any(clip.emotion for clip in source):
        where = f" of the split {options.split}" if options.split else ""
        raise DataError(f"{options.root} has no clips{where} with one of the seven emotion labels.")
    picked = np.random.default_rng(options.seed).permutation(len(source))[: options.limit].tolist()
    return [source[number] for number in sorted(picked)], source


async def _run(pipeline: Pipeline, clips: Sequence[Clip], source: Sequence[Clip], options: BuildOptions) -> int:
    ledger, states = pipeline.ledger, []
    ledger.clips["read"] = len(clips)
    for clip in clips:
        if clip.emotion is None:
            said = f"the label {clip.emotions_raw!r} is none of the seven" if clip.emotions_raw else "it has no label"
            ledger.reject(Rejection(clip.clip_id, "read", said, "clip"))
        else:
            states.append(ClipState(clip, clip.emotion))
    ledger.clips["with a label"] = len(states)
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
    else:
        items = balanced_items(items, labels, ledger, options)
        entries = [to_question(item, options.seed).to_json() for item in items]
        write_atomic(options.out / OUTPUT["emorealm"], json.dumps(entries, ensure_ascii=False, indent=1) + "\n")
        used = [item.state.clip.clip_id for item in items]
    ledger.clips["in the result"] = len(set(used))
    account_for(kept, set(used), ledger)
    return len(used)
