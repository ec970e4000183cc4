"""What may be trained on: clips that are known and in no benchmark, and rows whose text is text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pyarrow as pa

from avem.cache import FeatureStore
from avem.errors import DataError
from avem.evaluate.predict.clips import resolve_clips
from avem.extract import read_dataset
from avem.guards.special_tokens import special_in_row
from avem.records import Clip, InstructionRow, Modality, Question
from avem.tools.prefs.checks.leaks import ClipFacts, clips_in_benchmark
from avem.tools.prefs.ledger import Ledger, Rejection

BENCHMARK = "benchmark"
"""Step of the ledger in which clips of a benchmark are left out."""
CLIP = "clip"
"""Step in which entries and rows without a clip are left out."""


@dataclass(slots=True)
class Screen:
    """What is known of clips, and what must not be trained on.

    Args:
        stores: Feature stores; where there are some, they have to hold every clip.
        root: A dataset that holds the clips; None for none.
        dataset: The dataset's layout, if it is not recognised.
        benchmarks: Benchmark files that must share no clip with the rows.
        split: Only clips of this split, as far as the split of a clip is known.
    """

    stores: Sequence[Path] = ()
    root: Path | None = None
    dataset: str | None = None
    benchmarks: Sequence[Path] = ()
    split: str | None = None
    paths: dict[str, str] = field(default_factory=dict, init=False)
    """Clip id to file, of all clips known."""
    facts: ClipFacts = field(init=False)
    leaked: dict[str, Path] = field(default_factory=dict, init=False)
    """Clips that were left out because they are in a benchmark, with the benchmark."""
    _splits: dict[str, str] = field(default_factory=dict, init=False)
    _stems: dict[str, list[str]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Read the manifests and the dataset.

        Raises:
            StoreError: A path is not a store.
            MissingFileError: There is no such dataset.
            DataError: The dataset's layout is not known.
        """
        self.facts = ClipFacts.read(self.stores)
        self.paths |= self.facts.paths
        for store in self.stores:
            for clip in FeatureStore.open(store).columns(["clip_id", "split"]).to_pylist():
                self._splits[clip["clip_id"]] = clip["split"] or ""
        if self.root is not None:
            self.add(read_dataset(self.root, self.dataset))
        for clip_id, path in self.paths.items():
            self._stems.setdefault(PurePosixPath(path).stem, []).append(clip_id)

    def add(self, clips: Iterable[Clip]) -> None:
        """Take in what a dataset says about its clips."""
        for clip in clips:
            self.paths.setdefault(clip.clip_id, clip.path or clip.clip_id)
            self._splits.setdefault(clip.clip_id, clip.split)

    def note(self, clip_id: str, path: str = "", digest: str = "") -> None:
        """Take in what a row says about its clip, for the comparison with benchmarks."""
        if path and not self.knows_clips:
            self.paths.setdefault(clip_id, path)
        if digest:
            self.facts.digests.setdefault(clip_id, digest)

    @property
    def knows_clips(self) -> bool:
        """Whether a store or a dataset says which clips there are."""
        return bool(self.stores) or self.root is not None

    def named(self, stem: str) -> str | None:
        """The clip whose file has this name without suffix; None where there is none.

        Raises:
            DataError: There are several; the message is the reason, without a full stop.
        """
        found = self._stems.get(stem, [])
        if len(found) > 1:
            raise DataError(f"{len(found)} clips are called {stem} ({', '.join(found[:2])})")
        return found[0] if found else None

    def clips_of(self, questions: Sequence[Question]) -> dict[str, str]:
        """Question id to clip id, by the clip that a question names itself, or by the benchmark's rule for files."""
        own = {question.id: str(question.extra["clip_id"]) for question in questions if "clip_id" in question.extra}
        others = [question for question in questions if question.id not in own]
        if others and self.paths:
            names = list(self.paths)
            table = pa.table({"clip_id": names, "path": [self.paths[name] for name in names]})
            own |= {name: names[row] for name, row in resolve_clips(table, others).rows.items()}
        return own

    def leaks(self, clips: Iterable[str]) -> dict[str, Path]:
        """Those of some clips that are in a benchmark, with the benchmark."""
        asked = list(dict.fromkeys(clips))
        found: dict[str, Path] = {}
        for benchmark in self.benchmarks:
            names = clips_in_benchmark(asked, dict(self.facts.digests), dict(self.paths), self.facts.owners, benchmark)
            found = dict.fromkeys(names, benchmark) | found
        return found

    def drop_leaks(self, clips: Sequence[Clip], ledger: Ledger) -> list[Clip]:
        """The clips that no benchmark asks about; the others are noted.

        Raises:
            DataError: All of them are in a benchmark.
        """
        self.add(clips)
        found = self.leaks(clip.clip_id for clip in clips)
        for clip_id, benchmark in found.items():
            self._note_leak(clip_id, benchmark, ledger)
        if clips and len(found) == len(clips):
            files = min(map(str, found.values()))
            raise DataError(f"All {len(clips)} clips are in the benchmark {files} too; train on other clips.")
        return [clip for clip in clips if clip.clip_id not in found]

    def _note_leak(self, clip_id: str, benchmark: Path, ledger: Ledger) -> None:
        if clip_id not in self.leaked:
            ledger.reject(Rejection(clip_id, BENCHMARK, f"it is in the benchmark {benchmark} too", "clip"))
        self.leaked[clip_id] = benchmark

    def keep(self, rows: Iterable[InstructionRow], ledger: Ledger) -> list[InstructionRow]:
        """The rows that can be trained on, in the order of their ids; the others are noted with the reason.

        Each row counts in the ledger as written, and then as final or unusable.
        """
        ordered = sorted(rows, key=lambda row: row.row_id)
        found = self.leaks(row.clip_id for row in ordered)
        kept: list[InstructionRow] = []
        seen: set[str] = set()
        for row in ordered:
            counts = ledger.counts[row.task]
            if row.clip_id in found:
                counts["unusable"] += 1
                self._note_leak(row.clip_id, found[row.clip_id], ledger)
                continue
            if reason := self._fault(row) or ("another row has this id" if row.row_id in seen else ""):
                counts["unusable"] += 1
                ledger.reject(Rejection(row.clip_id, CLIP, reason, "item", row.row_id))
                continue
            seen.add(row.row_id)
            counts["final"] += 1
            kept.append(row)
        return kept

    def _fault(self, row: InstructionRow) -> str:
        for name, token in special_in_row(row):
            return f"its {name} holds {token!r}, a special token or placeholder"
        if not row.question.strip() or not row.answer.strip():
            return "its question or answer is empty"
        if self.stores and row.clip_id not in self.facts.paths:
            return "the clip is in none of the stores"
        if self.knows_clips and row.clip_id not in self.paths:
            return "the clip is not in the dataset"
        if self.split is not None and self._splits.get(row.clip_id, self.split) != self.split:
            return f"the clip is of the split {self._splits[row.clip_id] or 'without name'}, not {self.split}"
        if row.modality != Modality.VISUAL and row.clip_id in self.facts.silent:
            return "it asks about sound, and the clip has none"
        return ""


def leak_sentence(leaked: Mapping[str, Path]) -> str:
    """What is said of clips that were left out; empty where there are none.

    Example:
        >>> leak_sentence({"dfew/1": Path("emorealm_v1.json")})
        '1 clip is in the benchmark emorealm_v1.json and was left out: dfew/1.'
    """
    if not leaked:
        return ""
    names = sorted(leaked)
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    files = " and ".join(sorted({str(path) for path in leaked.values()}))
    said = "1 clip is" if len(names) == 1 else f"{len(names)} clips are"
    verb = "was" if len(names) == 1 else "were"
    return f"{said} in the benchmark {files} and {verb} left out: {shown}."
