"""From a question's clip file to a clip of the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from avem.records import Question


@dataclass(frozen=True, slots=True)
class Clips:
    """Where the clips of questions are, for whoever is asked."""

    places: Mapping[str, Any]
    """Question id to a row of the store or a media file."""
    absent: Mapping[str, str]
    """Question id to the reason why there is no clip."""


@dataclass(frozen=True, slots=True)
class ResolvedClips:
    """Where each question's clip is."""

    rows: dict[str, int]
    """Question id to row of the manifest."""
    absent: dict[str, str]
    """Question id to the reason why there is no clip."""


def resolve_clips(clips: Any, questions: Sequence[Question]) -> ResolvedClips:
    """Find the clip of every question in a store's manifest.

    A question's `video` fits a clip if it is its `clip_id` or its `path`, or the end of either in whole path parts,
    with or without the file's suffix: `part_1/1.mp4` fits `Clip/original/part_1/1.mp4`. The longest fit has to be the
    only one.

    Args:
        clips: The manifest, a `pyarrow.Table` with `clip_id` and `path`.
        questions: Questions to place.
    """
    index = _suffix_index(clips["clip_id"].to_pylist(), clips["path"].to_pylist())
    names = clips["clip_id"].to_pylist()
    rows, absent = {}, {}
    for question in questions:
        found = index.get(_parts(question.video), set())
        exact = {row for row in found if question.video == names[row]} or found
        if len(exact) == 1:
            rows[question.id] = min(exact)
        elif exact:
            fitting = ", ".join(sorted(names[row] for row in exact)[:3])
            absent[question.id] = f"{question.video} fits {len(exact)} clips of the store ({fitting})"
        else:
            absent[question.id] = f"no clip {question.video} in the store"
    return ResolvedClips(rows, absent)


def _suffix_index(names: Sequence[str], paths: Sequence[str]) -> dict[tuple[str, ...], set[int]]:
    index: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for row, (name, path) in enumerate(zip(names, paths, strict=True)):
        for parts in {_parts(name), _parts(path)}:
            for start in range(len(parts)):
                index[parts[start:]].add(row)
    return index


def _parts(path: str) -> tuple[str, ...]:
    """Path parts without the file's suffix and without a leading `./`."""
    pure = PurePosixPath(path.replace("\\", "/").lstrip("/"))
    return pure.with_suffix("").parts if pure.name else ()
