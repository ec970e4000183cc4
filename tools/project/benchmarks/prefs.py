"""How busy the pipeline keeps an endpoint, and how fast preference files are checked."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from avem.endpoint.chat import ChatClient, ChatSettings
from avem.files import write_json_lines
from avem.tools.corpus.rows import preferences
from avem.tools.corpus.scene import draw_scenes
from avem.tools.prefs.asking.engine import Engine, Job
from avem.tools.prefs.asking.journal import Journal
from avem.tools.prefs.asking.prompts import load_prompts
from avem.tools.prefs.checks.validate import validate
from avem.tools.prefs.steps.pipeline import MAIN, code_of
from avem.tools.prefs.steps.replies import Context
from avem.tools.prefs.steps.steps import STEPS
from avem.tools.project.benchmarks.measure import show
from avem.tools.project.standin.process import RunningStandIn, run_stand_in


@dataclass(frozen=True, slots=True)
class Busy:
    """How a run of requests went."""

    seconds: float
    in_hand: float
    """Share of the requests allowed in flight that had arrived and were not yet answered, on average."""
    replies: int
    """Replies that were read, checked and logged."""


def keep_busy(requests: int, parallel: int, latency_s: float, folder: Path) -> Busy:
    """Ask a stand-in in another process for yes-or-no questions on captions."""
    scenes = draw_scenes(requests, 0)
    caption = "In this clip the loud voice can be heard. The rain can be heard too."
    jobs = [
        Job(
            scene.clip_id,
            STEPS["stress_audio_present"],
            MAIN,
            {"code": code_of(scene.clip_id), "emotion": str(scene.emotion), "audio_caption": caption},
            Context(scene.emotion),
        )
        for scene in scenes
    ]

    async def ask(standin: RunningStandIn) -> Busy:
        settings = ChatSettings(endpoint=standin.endpoint, model="writer", parallel=parallel)
        async with AsyncExitStack() as stack:
            journal = stack.enter_context(Journal(folder / "log.jsonl"))
            engine = Engine({MAIN: await stack.enter_async_context(ChatClient(settings))}, load_prompts(), journal)
            await engine.run("warm up", jobs[:parallel])
            before, start = standin.in_hand_s(), time.perf_counter()
            outcomes = await engine.run("requests", jobs[parallel:])
            seconds = time.perf_counter() - start
            in_hand = (standin.in_hand_s() - before) / (seconds * parallel)
            return Busy(seconds, in_hand, sum(outcome.value is not None for outcome in outcomes))

    with run_stand_in(requests, latency_s) as standin:
        return asyncio.run(ask(standin))


def check_rows(rows: int, folder: Path) -> float:
    """Seconds to validate a file of so many rows."""
    items = (row for scene in draw_scenes(rows // 10 + 1, 0) for row in preferences(scene))
    write_json_lines(folder / "rows.jsonl", (row.to_json() for _, row in zip(range(rows), items, strict=False)))
    start = time.perf_counter()
    report = validate(folder / "rows.jsonl")
    seconds = time.perf_counter() - start
    if report.rows != rows:
        raise RuntimeError(json.dumps(report.kinds))
    return seconds


def main(
    requests: Annotated[int, typer.Option(help="Requests to send.")] = 6400,
    parallel: Annotated[int, typer.Option(help="Requests in flight.")] = 32,
    latency_ms: Annotated[float, typer.Option(help="Time that every reply takes.")] = 50.0,
    rows: Annotated[int, typer.Option(help="Rows to validate.")] = 100_000,
) -> None:
    """Measure both and print a table for docs/performance.md."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        busy = keep_busy(requests, parallel, latency_ms / 1000, folder)
        checked = check_rows(rows, folder)
    ideal = (requests - parallel) * latency_ms / 1000 / parallel
    asked = f"{requests - parallel} requests of {latency_ms:g} ms, {parallel} in flight"
    took = f"{busy.seconds:.1f} s for {busy.replies} replies, at best {ideal:.1f} s"
    rate = ideal / busy.seconds
    table = (
        (f"{asked}: share in the endpoint's hands", f"{busy.in_hand:.1%} ({took}: {rate:.1%})", ">= 90 %"),
        (f"{rows} preference rows validated", f"{checked:.1f} s", "< 10 s"),
    )
    show("Preference data", ("what", "measured", "target"), table)


if __name__ == "__main__":
    typer.run(main)
