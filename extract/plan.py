"""Plans a run before anything is decoded: which files are new or changed, what to extract, and whether it will fit."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from avem.cache import ClipRecord, StreamSpec
from avem.cache.records import FAILED, OK, ClipFailure, Kind
from avem.cache.windows import whole_ids
from avem.errors import StoreError
from avem.files import file_sha256
from avem.progress import stage
from avem.reading import irregular
from avem.records import Clip
from avem.text.escaping import terminal_text

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


def statuses(known: pa.Table, kind: Kind) -> dict[str, str]:
    """Status of every clip of the manifest in a stream, by clip id."""
    return dict(zip(known["clip_id"].to_pylist(), known[f"{kind}_status"].to_pylist(), strict=True))


def count_pending(records: Sequence[ClipRecord], known: pa.Table, kind: Kind, retry_failed: bool) -> int:
    """How many of the clips are missing in a stream; a file that was replaced counts, whatever the manifest says."""
    status, sha256 = (
        statuses(known, kind),
        dict(zip(*(known[n].to_pylist() for n in ("clip_id", "sha256")), strict=True)),
    )
    return sum(
        sha256.get(record.clip_id) != record.sha256 or not _is_done(status[record.clip_id], retry_failed)
        for record in records
    )


def _is_done(status: str, retry_failed: bool) -> bool:
    return status == OK or (status.startswith(FAILED) and not retry_failed)


def free_bytes(path: Path) -> int:
    """Free space on the disk that a path is on or will be on."""
    path = path.expanduser().absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def bytes_needed(specs: dict[Kind, StreamSpec], pending: dict[Kind, int]) -> int:
    """Disk space that the pending rows will take."""
    return int(RESERVE * sum((spec.row_bytes + 4 * spec.pooled_dim) * pending[kind] for kind, spec in specs.items()))


def bytes_replaced(store: Path, specs: dict[Kind, StreamSpec], known: pa.Table) -> int:
    """Disk space that a store's files hold for rows that are to be written again."""
    held = 0
    for kind, spec in specs.items():
        files = (store / spec.name).glob("*/c.*")
        taken = sum(path.stat().st_blocks * 512 for path in files)
        held += max(taken - bytes_needed({kind: spec}, {kind: known[f"{kind}_status"].to_pylist().count(OK)}), 0)
    return held


def check_disk(path: Path, needed: int, free: int) -> None:
    """Refuse to start what can't be finished.

    Raises:
        StoreError: The features would not fit on the disk.
    """
    if needed > free:
        raise StoreError(
            f"The features take {needed / 1e6:,.1f} MB and the disk of {path} has {free / 1e6:,.1f} MB free; give "
            "--cache on a larger disk, or use --dtype int8 or --limit."
        )
