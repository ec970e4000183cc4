"""Paths of commands that load a model, checked before torch is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import filterfalse
from pathlib import Path

from avem.endpoint.reach import need_endpoint
from avem.guards.inputs import is_result, need_file, need_model, need_store
from avem.guards.output_kinds import BENCH, PROBE
from avem.guards.outputs import folder_target


def check_bench(
    models: Sequence[str],
    cache: Path,
    out: Path,
    *,
    reads: Sequence[Path | None] = (),
    media: Path | None = None,
    endpoint: str | None = None,
) -> None:
    """Check the models of a bench, its store and its folder.

    Args:
        models: Folders, hub ids or results of earlier benches.
        cache: The store.
        out: Where results go.
        reads: What else is read.
        media: Folder of the clips.
        endpoint: Where the models answer, if they are not run here.

    Raises:
        AvemError: One is not there, the folder may not be written, or nothing listens at the endpoint.
    """
    fresh = list(filterfalse(is_result, models))
    if endpoint is None:
        for model in fresh:
            need_model(model)
    if fresh and media is None:
        need_store(cache)
    folder_target(out, BENCH, reads=[cache, *reads, *fresh], roots=[media])
    if fresh:
        need_endpoint(endpoint, saved=out)


def check_probe(models: Sequence[str], questions: Path, cache: Path, out: Path) -> None:
    """Check what a probe reads, and its folder.

    Raises:
        AvemError: Something is not there, or the folder may not be written.
    """
    need_file(questions, "--questions", "benchmark file")
    for model in models:
        need_model(model)
    need_store(cache)
    folder_target(out, PROBE, reads=[questions, cache, *models])
