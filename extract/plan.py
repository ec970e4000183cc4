"""Plans a run before anything is decoded: which files are new or changed, what to extract, and whether it will fit."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from avem.cache import ClipRecord, StreamSpec
from avem.cache.disk import layout
from avem.cache.manifest.columns import statuses as stream_statuses
from avem.cache.records import FAILED, OK, ClipFailure
from avem.cache.windows import whole_ids
from avem.errors import StoreError
from avem.extract.encoders.source import Source
from avem.extract.sizes import StreamSize, measure_clips, stream_size
from avem.files import file_sha256
from avem.progress import stage
from avem.reading import irregular
from avem.records import Clip
from avem.text.escaping import terminal_text
from avem.text.sizes import size_text

HASH_THREADS = 4
RESERVE = 1.02
"""Disk space asked for over the features' own: checksums, pooled vectors, manifest."""


def hash_clips(root: Path, clips: Sequence[Clip], known: pa.Table) -> tuple[list[ClipRecord], list[ClipFailure]]:
    """Records of the clips' files; files whose size and time the manifest knows are not read again.

    Args:
        root: Folder that paths are relative to.
        clips: The clips.
        known: The store's manifest; windows know their clip's file.

    Returns:
        A record for each readable file, and a failure for each other one. Unreadable files stay out of the manifest,
        so that they enter it with their real content once they can be read.
    """
    columns = [known[name].to_pylist() for name in ("size_bytes", "modified_ns", "sha256")]
    files = list(zip(*columns, strict=True))
    seen = dict(zip(whole_ids(known), files, strict=True)) | dict(zip(known["clip_id"].to_pylist(), files, strict=True))

    def look(clip: Clip) -> ClipRecord | ClipFailure:
        path = root / clip.path
        try:
            status = path.stat()
            for name, mode in ((clip.path, status.st_mode), (clip.audio_path, _mode(root, clip.audio_path))):
                if problem := irregular(mode):
                    return ClipFailure(clip.clip_id, "file", f"{terminal_text(name)} {problem}")
            size, modified, sha256 = seen.get(clip.clip_id, (None, None, ""))
            if (size, modified) != (status.st_size, status.st_mtime_ns):
                sha256 = file_sha256(path)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            if isinstance(error, FileNotFoundError) and not path.is_symlink():
                return ClipFailure(clip.clip_id, "file", f"{terminal_text(clip.path)} does not exist")
            reason = getattr(error, "strerror", None) or error
            return ClipFailure(clip.clip_id, "file", f"{terminal_text(clip.path)} can't be read ({reason})")
        return ClipRecord.of(clip, sha256, status.st_size, status.st_mtime_ns)

    results: list[ClipRecord | ClipFailure] = []
    with stage("plan", len(clips)) as bar, ThreadPoolExecutor(HASH_THREADS) as threads:
        for result in threads.map(look, clips):
            results.append(result)
            bar.advance(failures=isinstance(result, ClipFailure))
    records = [result for result in results if isinstance(result, ClipRecord)]
    return records, [result for result in results if isinstance(result, ClipFailure)]


def _mode(root: Path, name: str) -> int:
    """Mode of a clip's own sound file; that of a file where it names none, or one that is missing."""
    try:
        return (root / name).stat().st_mode if name else stat.S_IFREG
    except FileNotFoundError:
        return stat.S_IFREG  # decoding says so


def columns(store: Path, sources: Mapping[str, Source]) -> dict[str, str]:
    """What the manifest calls each stream of a run, by slot; what it would call one that the store does not have."""
    attributes: Mapping[str, Any] = {}
    if (store / layout.METADATA).is_file():
        attributes = layout.store_attributes(layout.read_metadata(store), str(store))
    there = layout.stream_entries(attributes)
    taken = {entry.column for entry in there.values()}
    names = {slot: f"{slot}/{source.name}" for slot, source in sources.items()}
    return {
        slot: there[name].column if name in there else name if slot in taken else slot for slot, name in names.items()
    }


def statuses(known: pa.Table, column: str) -> dict[str, str]:
    """Status of every clip of the manifest in a stream, by clip id."""
    return dict(zip(known["clip_id"].to_pylist(), stream_statuses(known, column), strict=True))


def pending_records(
    records: Sequence[ClipRecord], known: pa.Table, column: str, retry_failed: bool
) -> list[ClipRecord]:
    """The clips that are missing in a stream; a file that was replaced counts, whatever the manifest says."""
    status, sha256 = (
        statuses(known, column),
        dict(zip(*(known[n].to_pylist() for n in ("clip_id", "sha256")), strict=True)),
    )
    return [
        record
        for record in records
        if sha256.get(record.clip_id) != record.sha256 or not _is_done(status[record.clip_id], retry_failed)
    ]


def _is_done(status: str, retry_failed: bool) -> bool:
    return status == OK or (status.startswith(FAILED) and not retry_failed)


def free_bytes(path: Path) -> int:
    """Free space on the disk that a path is on or will be on."""
    path = path.expanduser().absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def stream_sizes(
    root: Path,
    specs: Mapping[str, StreamSpec],
    sources: Mapping[str, Source],
    pending: Mapping[str, Sequence[ClipRecord]],
) -> dict[str, StreamSize]:
    """How large the pending rows of each stream will be; headers are read where that depends on the clip."""
    ragged = [slot for slot in specs if sources[slot].tokens is not None and pending[slot]]
    records = {record.clip_id: record for slot in ragged for record in pending[slot]}
    measured = measure_clips(root, list(records.values())) if records else []
    return {
        slot: stream_size(spec, len(pending[slot]), measured, sources[slot].tokens, sources[slot].smaller)
        for slot, spec in specs.items()
    }


def bytes_needed(sizes: Mapping[str, StreamSize]) -> int:
    """Disk space that the pending rows will take."""
    return int(RESERVE * sum(size.bytes_total for size in sizes.values()))


def bytes_replaced(store: Path, specs: Mapping[str, StreamSpec], columns: Mapping[str, str], known: pa.Table) -> int:
    """Disk space that a store's files hold for rows that are to be written again."""
    held = 0
    for slot, spec in specs.items():
        files = (store / spec.name).glob("*/c.*")
        taken = sum(path.stat().st_blocks * 512 for path in files)
        rows = stream_statuses(known, columns[slot]).count(OK)
        if spec.ragged and rows:
            continue  # how much of it is theirs is not known; asking for too much is the safe side
        held += max(taken - bytes_needed({slot: stream_size(spec, rows)}), 0)
    return held


def check_disk(path: Path, needed: int, free: int) -> None:
    """Refuse to start what can't be finished.

    Raises:
        StoreError: The features would not fit on the disk.
    """
    if needed > free:
        raise StoreError(
            f"The features take {size_text(needed)} and the disk of {path} has {size_text(free)} free; give "
            "--cache on a larger disk, or use --dtype int8, --limit or, with --for, a smaller --max-pixels."
        )
