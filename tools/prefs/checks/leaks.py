"""Clips that stand in a file twice, under two names, or in a benchmark too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from avem.cache import FeatureStore
from avem.cache.windows import whole_ids
from avem.evaluate.emorealm import read_questions
from avem.evaluate.predict.clips import resolve_clips
from avem.records import InstructionRow, Modality, PreferenceRow, Question
from avem.tools.prefs.checks.report import Fault

Rows = Sequence[tuple[int, PreferenceRow | InstructionRow]]


@dataclass(slots=True)
class ClipFacts:
    """What feature stores know about clips."""

    digests: dict[str, str] = field(default_factory=dict)
    """Clip id to the SHA-256 of its file."""
    silent: set[str] = field(default_factory=set)
    """Clips without sound, or with nothing but zeros for sound."""
    paths: dict[str, str] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    """Clip id to the whole clip that it is, or is a window of."""

    @classmethod
    def read(cls, stores: Iterable[Path]) -> ClipFacts:
        """Read the manifests of stores.

        Raises:
            StoreError: One of them is not a store.
        """
        facts = cls()
        for path in stores:
            clips = FeatureStore.open(path).clips
            facts.owners |= dict(zip(clips["clip_id"].to_pylist(), whole_ids(clips), strict=True))
            for clip in clips.select(["clip_id", "path", "sha256", "has_audio", "silent"]).to_pylist():
                facts.digests[clip["clip_id"]] = clip["sha256"] or ""
                facts.paths[clip["clip_id"]] = clip["path"]
                if clip["has_audio"] is False or clip["silent"]:
                    facts.silent.add(clip["clip_id"])
        return facts


def leak_faults(rows: Rows, benchmarks: Iterable[Path], facts: ClipFacts) -> list[Fault]:
    """Faults of the clips that rows ask about, each at the first line of its clip.

    Args:
        rows: Rows with their lines.
        benchmarks: Benchmark files; a clip of theirs, by name or by content, is an error.
        facts: From the stores; rows may carry their clip's digest and file too, as `provenance.sha256` and `.path`.
    """
    first: dict[str, int] = {}
    digests, paths = dict(facts.digests), dict(facts.paths)
    faults = []
    for number, row in rows:
        first.setdefault(row.clip_id, number)
        provenance = getattr(row, "provenance", {})  # instruction rows have none
        if digest := provenance.get("sha256"):
            digests.setdefault(row.clip_id, str(digest))
        if path := provenance.get("path"):
            paths.setdefault(row.clip_id, str(path))
        if row.modality != Modality.VISUAL and row.clip_id in facts.silent:
            faults.append(Fault(number, "no-sound", f"asks about sound, and {row.clip_id} has none"))
    faults += _two_names(first, digests, facts.owners) + _unknown(first, facts)
    for benchmark in benchmarks:
        faults += _in_benchmark(first, digests, paths, facts.owners, benchmark)
    return faults


def _two_names(first: dict[str, int], digests: dict[str, str], owners: dict[str, str]) -> list[Fault]:
    """Different clips of one content; windows of one clip are not."""
    named: dict[str, list[str]] = defaultdict(list)
    for clip in first:
        if digests.get(clip):
            named[digests[clip]].append(clip)
    return [
        Fault(first[other], "duplicate-clip", f"{other} is the same file as {clips[0]}", error=False)
        for clips in named.values()
        for other in clips[1:]
        if owners.get(other, other) != owners.get(clips[0], clips[0])
    ]


def _unknown(first: dict[str, int], facts: ClipFacts) -> list[Fault]:
    if not facts.paths:
        return []
    return [
        Fault(number, "unknown-clip", f"{clip} is in none of the stores")
        for clip, number in first.items()
        if clip not in facts.paths
    ]


def _in_benchmark(
    first: dict[str, int], digests: dict[str, str], paths: dict[str, str], owners: dict[str, str], benchmark: Path
) -> list[Fault]:
    """Clips that the benchmark asks about: by its clip ids where it has them, by its files, and by their content.

    A clip that the benchmark asks about stands for all its windows.
    """
    leaked = clips_in_benchmark(first, digests, paths, owners, benchmark)
    return [Fault(first[clip], "leak", f"{clip} is in the benchmark {benchmark} too") for clip in leaked]


def clips_in_benchmark(
    clips: Collection[str], digests: dict[str, str], paths: dict[str, str], owners: dict[str, str], benchmark: Path
) -> list[str]:
    """Those of some clips that a benchmark asks about, by id, by file, or by content.

    Args:
        clips: Clip ids.
        digests: SHA-256 of the files of clips, as far as known.
        paths: Their files.
        owners: The whole clip of each window.
        benchmark: The benchmark's file.
    """
    questions = read_questions(benchmark)
    asked = {str(question.extra["clip_id"]) for question in questions if "clip_id" in question.extra}
    known = sorted({*clips, *paths})
    whole = {name: owners.get(name, name) for name in known}
    asked |= _fitting(list(whole.values()), [paths.get(name, name) for name in known], questions)
    asked |= {name for name in known if whole[name] in asked} | {whole[name] for name in asked if name in whole}
    contents = {digests.get(clip) for clip in asked} - {None, ""}
    return [clip for clip in clips if whole[clip] in asked or digests.get(clip) in contents]


def _fitting(names: Sequence[str], paths: Sequence[str], questions: Iterable[Question]) -> set[str]:
    """The clips that a benchmark's `video` fields fit, by the rule by which the benchmark finds clips in a store."""
    if not names:
        return set()
    table = pa.table({"clip_id": list(names), "path": list(paths)})
    each = {question.video: question for question in questions}
    return {names[row] for row in resolve_clips(table, list(each.values())).rows.values()}
