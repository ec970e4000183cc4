"""Copying a store to a URL and back: only what differs, in an order in which no half-copied store looks complete.

Features go first, then what describes them, then the ledger and the manifest, and the root last. A record beside the
store, `ledger/push.json` behind the URL and `ledger/pull.json` on the disk, says of each file that was copied which
version it had on both sides; a file that still has both is not looked at again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path

from avem.cache.disk.layout import LEDGER, METADATA
from avem.cache.disk.sweep import LEFTOVER
from avem.cache.remote.objects import Listed
from avem.errors import DataError, StoreError
from avem.files import write_atomic
from avem.progress import Stage, stage
from avem.reading import parse_json

PUSHED, PULLED = f"{LEDGER}/push.json", f"{LEDGER}/pull.json"
COPIES = f"{LEDGER}/copies.json"
"""File in a local store: digests of the manifests and roots that it has in common with a URL, by URL."""
DIGESTS_KEPT = 500
"""Digests that are kept of each URL, the last ones."""
PARALLEL = 8
"""Files that are copied at once."""
SAVE_EVERY_S = 5.0
"""How often the record is written while files are copied."""
OWN = ("claims", "writers", "lock.json", "lock", "push.json", "pull.json", "copies.json")
"""What the ledger holds that belongs to where the store is: locks, claims, and records of copying."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A file that is the same on both sides."""

    size: int
    modified_ns: int
    """Of the local file."""
    sha256: str
    version: str
    """Of the object."""


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What was done."""

    copied: int
    """Files."""
    copied_bytes: int
    unchanged: int
    """Files that were the same on both sides already."""
    removed: int
    """Files that an earlier copy had brought and that are gone where they came from."""


def local_files(store: Path) -> dict[str, os.stat_result]:
    """A local store's files by their names in it, without locks and what killed writers left."""
    found: dict[str, os.stat_result] = {}
    for parent, folders, names in os.walk(store):
        where = Path(parent)
        folders[:] = [name for name in folders if not name.startswith(".") and not name.endswith(".locks")]
        for name in names:
            path = where / name
            key = path.relative_to(store).as_posix()
            if path.is_file() and not path.is_symlink() and belongs(key):
                found[key] = path.stat()
    return found


def belongs(name: str) -> bool:
    """Whether a file is part of a store, wherever that is."""
    first, _, rest = name.partition("/")
    base = name.rpartition("/")[2]
    if LEFTOVER.fullmatch(base) or base.startswith("."):
        return False
    return not (first == LEDGER and (rest.partition("/")[0] in OWN or rest.endswith(".lock")))


def is_manifest(name: str) -> bool:
    """Whether a file is a part of the manifest, or the index of one."""
    return re.fullmatch(r"clips(-\d{6})?\.(parquet|ids)", name) is not None


def stage_of(name: str) -> int:
    """When a file is copied: a file says something about those that are copied before it alone."""
    if name == METADATA:
        return 4
    if is_manifest(name):
        return 3
    if name.startswith(f"{LEDGER}/"):
        return 2
    return 1 if name.endswith(f"/{METADATA}") else 0


class Record:
    """Which files are known to be the same on both sides.

    Args:
        save: Writes the record's text.
        data: The record as it was saved last; None: there is none yet.
        where: For messages.
        url: The side that is not on this machine.

    Raises:
        StoreError: The record can't be read, or is one of another URL.
    """

    def __init__(self, save: Callable[[bytes], None], data: bytes | None, where: str, url: str) -> None:
        self._save, self._url, self._saved_at = save, url, time.monotonic()
        self._guard = threading.Lock()
        self.files: dict[str, Copied] = {}
        if data is not None:
            try:
                held = parse_json(data, where, dict)
                self.files = {name: Copied(**item) for name, item in held["files"].items()}
                known = str(held["url"])
            except (DataError, KeyError, TypeError, AttributeError) as error:
                raise StoreError(f"{where} is damaged ({error}); remove it, and run the same command again.") from error
            if known != url:
                raise StoreError(f"{where} says that this is a copy of {known}, not of {url}; give another folder.")

    def add(self, name: str, copied: Copied) -> None:
        """Enter a file, and save the record now and then; threads may share it."""
        with self._guard:
            self.files[name] = copied
            if time.monotonic() - self._saved_at > SAVE_EVERY_S:
                self.save()

    def save(self) -> None:
        """Save the record."""
        files = {name: asdict(copied) for name, copied in sorted(self.files.items())}
        self._save(json.dumps({"made_by": "avem", "url": self._url, "files": files}).encode())
        self._saved_at = time.monotonic()


def shared_digests(store: Path, url: str) -> list[str]:
    """SHA-256 of the manifests and roots that a local store has had in common with a URL."""
    path = store / COPIES
    try:
        held = parse_json(path.read_bytes(), str(path), dict) if path.is_file() else {}
        return [str(digest) for digest in held.get(url, ())]
    except (DataError, TypeError) as error:
        raise StoreError(f"{path} is damaged ({error}); remove it, and pull the store into a new folder.") from error


def remember_shared(store: Path, url: str, contents: Iterable[bytes]) -> None:
    """Note, before they are copied, manifests and roots that a local store and a URL are about to have in common."""
    path = store / COPIES
    held = parse_json(path.read_bytes(), str(path), dict) if path.is_file() else {}
    digests = [*held.get(url, ()), *(hashlib.sha256(content).hexdigest() for content in contents)]
    held[url] = list(dict.fromkeys(reversed(digests)))[:DIGESTS_KEPT][::-1]
    write_atomic(path, json.dumps(held))


def is_same(known: Copied | None, local: os.stat_result | None, remote: Listed | None, path: Path) -> Copied | None:
    """The two sides' common state of a file, if it is the same on both.

    A file that was touched since it was copied, or whose copying was not recorded, is compared by its content.
    """
    if local is None or remote is None or local.st_size != remote.size:
        return None
    if known is not None and remote.version is not None and known.version == remote.version:
        if known.size == local.st_size and known.modified_ns == local.st_mtime_ns:
            return known
        digest = sha256_of(path)
        return Copied(local.st_size, local.st_mtime_ns, digest, remote.version) if digest == known.sha256 else None
    md5 = (remote.version or "").strip('"')
    if len(md5) == 32 and "-" not in md5 and _md5_of(path) == md5:  # S3's version of a file sent as one piece
        return Copied(local.st_size, local.st_mtime_ns, sha256_of(path), remote.version or "")
    return None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def in_order(names: Iterable[str], sizes: Mapping[str, int], copy: Callable[[str], None], title: str) -> None:
    """Copy files, those of a stage at once and one stage after another."""
    chosen = sorted(names)
    total = sum(sizes[name] for name in chosen)
    with stage(title, -(-total // 10**6), "MB") as shown, ThreadPoolExecutor(PARALLEL, "copy") as pool:
        progress = _Megabytes(shown)
        for number in sorted({stage_of(name) for name in chosen}):
            _all(pool, copy, [name for name in chosen if stage_of(name) == number], sizes, progress)


def _all(
    pool: ThreadPoolExecutor,
    copy: Callable[[str], None],
    names: Sequence[str],
    sizes: Mapping[str, int],
    shown: _Megabytes,
) -> None:
    """Copy files at once; after an error no further ones are begun."""
    waiting, running = list(reversed(names)), dict[Future[None], str]()
    while waiting or running:
        while waiting and len(running) < PARALLEL:
            name = waiting.pop()
            running[pool.submit(copy, name)] = name
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            name = running.pop(future)
            future.result()
            shown.add(sizes[name])


class _Megabytes:
    """Progress in whole megabytes."""

    def __init__(self, shown: Stage) -> None:
        self._shown, self._bytes = shown, 0

    def add(self, count: int) -> None:
        before = self._bytes // 10**6
        self._bytes += count
        self._shown.advance(self._bytes // 10**6 - before)
