"""How busy the pipeline keeps an endpoint, and how fast preference files are checked."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from avem.chat import ChatClient, ChatSettings
from avem.files import write_json_lines
from avem.tools.benchmarks.measure import show
from avem.tools.corpus.rows import preferences
from avem.tools.corpus.scene import draw_scenes
from avem.tools.prefs.engine import Engine, Job
from avem.tools.prefs.journal import Journal
from avem.tools.prefs.pipeline import MAIN, code_of
from avem.tools.prefs.prompts import load_prompts
from avem.tools.prefs.replies import Context
from avem.tools.prefs.standin_process import run_stand_in
from avem.tools.prefs.steps import STEPS
from avem.tools.prefs.validate import validate


def keep_busy(requests: int, parallel: int, latency_s: float, folder: Path) -> tuple[float, float, int]:
    """Ask a stand-in in another process for yes-or-no questions on captions.

    Returns:
        Seconds taken, the share of `parallel` requests that the stand-in had in hand on average, and replies.
    """
    scenes = draw_scenes(requests, 0)
    caption = "In this clip the loud voice can be heard. The rain can be heard too."
    jobs = [
        Job(scene.clip_id, STEPS["stress_audio_present"], MAIN,
            {"code": code_of(scene.clip_id), "emotion": str(scene.emotion), "audio_caption": caption},
            Context(scene.emotion))
        for scene in scenes
    ]  # fmt: skip

    async def ask(endpoint: str) -> tuple[float, int]:
        settings = ChatSettings(endpoint=endpoint, model="writer", parallel=parallel)
        async with AsyncExitStack() as stack:
            journal = stack.enter_context(Journal(folder / "log.jsonl"))
            engine = Engine({MAIN: await stack.enter_async_context(ChatClient(settings))}, load_prompts(), journal)
            await engine.run("warm up", jobs[:parallel])
            start = time.perf_counter()
            outcomes = await engine.run("requests", jobs[parallel:])
            return time.perf_counter() - start, sum(outcome.value is not None for outcome in outcomes)

    with run_stand_in(requests, latency_s) as endpoint:
        seconds, replies = asyncio.run(ask(endpoint))
    return seconds, (requests - parallel) * latency_s / (seconds * parallel), replies


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
        seconds, busy, replies = keep_busy(requests, parallel, latency_ms / 1000, folder)
        checked = check_rows(rows, folder)
    ideal = (requests - parallel) * latency_ms / 1000 / parallel
    show(
        "Preference data",
        ("what", "measured", "reach"),
        (
            (f"{requests - parallel} requests of {latency_ms:g} ms, {parallel} in flight: share kept busy",
             f"{busy:.1%} ({seconds:.1f} s, at best {ideal:.1f} s; {replies} replies read)", ">= 90 %"),
            (f"{rows} preference rows validated", f"{checked:.1f} s", "< 10 s"),
        ),
    )  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
