"""Clips longer than 30 s: whole with their sound cut (`cut`), or as windows of 30 s (`windows`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from avem.cache import ClipRecord
from avem.cache.records import FAILED, OK
from avem.cache.windows import Span, clip_spans, is_long, whole_id, whole_ids, window_id, window_spans
from avem.errors import DataError, SettingError
from avem.extract.decode.pool import DecodePool
from avem.extract.decode.task import DecodeTask
from avem.extract.options import CUT, WINDOWS, ExtractOptions, Remarks
from avem.progress import stage
from avem.text.names import storable


@dataclass(slots=True)
class KnownForms:
    """In which form a store holds a clip: whole, as windows, or both."""

    whole: dict[str, tuple[str, float | None]] = field(default_factory=dict)
    """Clip id to the content of a whole clip and its length in seconds, None where it is not known."""
    windows: dict[str, dict[str, tuple[Span, str]]] = field(default_factory=lambda: defaultdict(dict))
    """Clip id to its windows: their names, spans and content."""
    spans: dict[str, tuple[Span, str]] = field(default_factory=dict)
    """Name of each window to its span and its file's path."""
    done: set[str] = field(default_factory=set)
    """Clips and windows with features."""
    failed: set[str] = field(default_factory=set)
    """Clips and windows that failed in a stream and have features in none."""

    @classmethod
    def read(cls, known: pa.Table) -> KnownForms:
        """The forms in a manifest."""
        forms = cls()
        streams = [name for name in known.column_names if name.endswith("_status")]
        columns = [known[name].to_pylist() for name in ("clip_id", "path", "sha256", "duration_s", *streams)]
        for owner, span, name, path, sha256, length, *statuses in zip(
            whole_ids(known), clip_spans(known), *columns, strict=True
        ):
            if span is None:
                forms.whole[name] = (sha256, length)
            else:
                forms.windows[owner][name] = (span, sha256)
                forms.spans[name] = (span, path)
            if OK in statuses:
                forms.done.add(name)
            elif any(status is not None and status.startswith(FAILED) for status in statuses):
                forms.failed.add(name)
        return forms

    def is_short(self, record: ClipRecord) -> bool:
        """Whether a clip is held whole, unchanged, and known to have no windows."""
        sha256, length = self.whole.get(record.clip_id, ("", None))
        return sha256 == record.sha256 and length is not None and not window_spans(length)

    def may_be_replaced(self, clip_id: str) -> bool:
        """Whether all windows of a clip failed, so that a file that was fetched again may have others."""
        return all(name in self.failed for name in self.windows[clip_id])


def choose_forms(
    records: Sequence[ClipRecord], known: pa.Table, options: ExtractOptions, remembered: Mapping[str, str], root: Path
) -> list[ClipRecord]:
    """The records that a store is to hold: long clips whole or as windows.

    A clip that the store holds already keeps its form unless the options ask for another one, which is then added
    beside it. Windows that the store holds are taken from there; other files are measured.

    Args:
        records: The dataset's clips, whole, or clips and windows as the manifest names them.
        known: The store's manifest.
        options: `long` is `cut`, `windows`, or None for what the store says.
        remembered: Dataset to what an earlier run was asked for.
        root: Folder that paths are relative to.

    Raises:
        DataError: A window would have the name of another clip.
        SettingError: The decoder can't make windows.
    """
    forms = KnownForms.read(known)
    chosen: list[list[ClipRecord]] = []
    unmeasured: list[int] = []
    for record in records:
        held = _held_forms(record, forms, options.long)
        before = remembered.get(record.dataset, CUT)
        is_new = before != WINDOWS or not forms.is_short(record)  # else it was measured before
        if held is None and (options.long or before) == WINDOWS and is_new:
            unmeasured.append(len(chosen))
        chosen.append([record] if held is None else held)
    lengths = measure([records[index] for index in unmeasured], root, options.worker_count)
    for index, length in zip(unmeasured, lengths, strict=True):
        if spans := window_spans(length):
            chosen[index] = [as_window(records[index], span) for span in spans]
    flat = [record for of_clip in chosen for record in of_clip]
    if options.decoder == "decord" and any(record.span for record in flat):
        raise SettingError("decord decodes whole clips only; extract windows with --decoder pyav, or give --long cut.")
    _check_names(flat)
    return flat


def _held_forms(record: ClipRecord, forms: KnownForms, long: str | None) -> list[ClipRecord] | None:
    """The forms that the store holds a clip in and that are asked for; None where that is still to be decided."""
    clip_id = record.clip_id
    span, path = forms.spans.get(clip_id, (None, ""))
    if span is not None and path == storable(record.path):  # an entry of the manifest that is extracted again
        return [as_window(record, span, clip_id)]
    whole, windows = forms.whole.get(clip_id), forms.windows.get(clip_id, {})
    same = all(sha256 == record.sha256 for _, sha256 in windows.values()) or not forms.may_be_replaced(clip_id)
    as_windows = [as_window(record, span, name) for name, (span, _) in windows.items()] if same else []
    # A file that changed under a whole clip is reported by that clip's name, whatever is asked for now.
    changed = whole is not None and whole[0] != record.sha256 and clip_id in forms.done
    if long == CUT or changed:
        return [record]
    if long == WINDOWS:
        return as_windows or None
    held = ([record] if whole is not None else []) + as_windows
    return held or None


def as_window(record: ClipRecord, span: Span, name: str = "") -> ClipRecord:
    """The record of a part of a clip; windows of one clip share a source, so that none is a negative of another.

    Args:
        record: The whole clip.
        span: Which part.
        name: The window's name; empty for the usual one.
    """
    return replace(
        record,
        clip_id=name or window_id(record.clip_id, span),
        source=record.source or record.clip_id,
        start_s=span[0],
        end_s=span[1],
    )


def measure(records: Sequence[ClipRecord], root: Path, workers: int) -> list[float]:
    """Length of each clip in seconds, from its packets' times; nothing is decoded, and headers are not trusted.

    A file that can't be read has length 0: it stays one clip, whose decoding says what is wrong.
    """
    if not records:
        return []
    lengths = []
    tasks = [
        DecodeTask(number, str(root / record.path), str(root / (record.audio_path or record.path)), wants=("length",))
        for number, record in enumerate(records)
    ]
    workers = min(workers, len(tasks))
    with stage("durations", len(tasks)) as bar, DecodePool(workers) as pool:
        for _, answer in pool.map(tasks, 4 * workers):
            lengths.append(answer.duration_s or 0.0)
            bar.advance(failures=answer.duration_s is None)
    return lengths


def _check_names(records: Iterable[ClipRecord]) -> None:
    """Refuse a window whose name is a clip's of its own, which a file named like a window has."""
    named: dict[str, ClipRecord] = {}
    for record in records:
        other = named.setdefault(record.clip_id, record)
        if other.path != record.path:
            window, clip = (record, other) if record.span else (other, record)
            raise DataError(
                f"The window {window.clip_id} of {window.path} has the name of the clip {clip.path}; rename that file, "
                "or give it another clip_id."
            )


def named(only: frozenset[str]) -> frozenset[str]:
    """The ids, and the clips that they may be windows of."""
    return only | {whole_id(clip_id) for clip_id in only}


def select(records: Sequence[ClipRecord], only: frozenset[str]) -> list[ClipRecord]:
    """The records of some ids: clips, windows, and all windows of a clip that is named."""
    return [
        record
        for record in records
        if record.clip_id in only or (record.start_s is not None and whole_id(record.clip_id) in only)
    ]


def remark(records: Sequence[ClipRecord], known: pa.Table, root: Path, options: ExtractOptions) -> Remarks:
    """Which clips of a run are longer than 30 s and whole, which are windows, and which are silent.

    Args:
        records: The run's clips.
        known: The store's manifest after the run.
        root: Folder that paths are relative to.
        options: A dry run measures the clips whose length is not in the manifest.
    """
    names = known["clip_id"].to_pylist()
    ids = {record.clip_id for record in records}
    silent = (name for name, zero in zip(names, known["silent"].to_pylist(), strict=True) if zero and name in ids)
    lengths = dict(zip(names, known["duration_s"].to_pylist(), strict=True))
    divided = {whole_id(record.clip_id) for record in records if record.start_s is not None}
    divided |= {owner for owner, span in zip(whole_ids(known), clip_spans(known), strict=True) if span is not None}
    whole = [record for record in records if record.start_s is None and record.clip_id not in divided]
    if options.dry_run:
        unknown = [record for record in whole if lengths.get(record.clip_id) is None]
        lengths |= zip(
            (record.clip_id for record in unknown), measure(unknown, root, options.worker_count), strict=True
        )
    long = {record.clip_id: lengths[record.clip_id] for record in whole if is_long(lengths.get(record.clip_id))}
    return Remarks(
        long=tuple(long),
        divisible=sum(bool(window_spans(length)) for length in long.values()),
        windows=sum(record.start_s is not None for record in records),
        silent=tuple(silent),
    )
