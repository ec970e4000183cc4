"""The small files of a store in a bucket, mirrored in a local folder where the writer of local stores works.

The writer changes the mirror as it would change a store. What it changed is then put into the bucket in the order in
which it was written, each file on the condition that nobody else has written it since it was mirrored.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from avem.cache.disk import layout
from avem.cache.disk.layout import LEDGER, METADATA
from avem.cache.remote.fetch import Fetcher
from avem.cache.remote.leases import Bucket, Session
from avem.cache.remote.objects import ConflictError
from avem.cache.remote.transfer import belongs, local_files
from avem.errors import StoreError

LOCK = f"{LEDGER}/lock.json"
"""Claim of the writer that changes the manifest, the root or the arrays' shapes."""


@dataclass(frozen=True, slots=True)
class Known:
    """A file that is the same in the bucket and in the mirror."""

    version: str
    size: int
    modified_ns: int
    """Of the file in the mirror."""


class Mirror:
    """One process' mirror of one store's small files; threads may share it.

    Args:
        url: The store.

    Raises:
        StoreError: The URL can't be written by avem.
    """

    def __init__(self, url: str) -> None:
        self.fetcher = Fetcher(url)
        self.url, self.bucket = self.fetcher.url, Bucket(self.fetcher)
        self.folder = Path(tempfile.mkdtemp(prefix="avem-"))
        self._known: dict[str, Known] = {}
        self._session: Session | None = None
        self._guard = threading.RLock()  # of what is known, and of the files in the folder
        self._turn = threading.RLock()  # to change the manifest, or to begin to commit a shard
        self._free = threading.Condition()
        self._committing = 0

    @property
    def session(self) -> Session:
        """This process' session at the bucket."""
        with self._guard:
            if self._session is None:
                self._session = Session(self.bucket)
            return self._session

    def close(self) -> None:
        """End the session and remove the folder."""
        with self._guard:
            if self._session is not None:
                self._session.close()
                self._session = None
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Be the one that changes the manifest, the root or the arrays' shapes, with the mirror up to date.

        What the block changes is put into the bucket at its end; after an error in it, nothing is.

        Raises:
            StoreError: Another writer has changed the same files, because this one was suspended for long.
        """
        with self._alone():
            self.session.wait(LOCK)
            try:
                self.down()
                try:
                    yield
                    self._up()
                except BaseException:
                    self._discard()
                    raise
            finally:
                self.session.release(LOCK)

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Commit a shard: nobody in this process changes the manifest meanwhile."""
        with self._turn, self._free:
            self._committing += 1
        try:
            yield
        finally:
            with self._free:
                self._committing -= 1
                self._free.notify_all()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the mirror while no shard is being committed."""
        with self._turn:
            with self._free:
                self._free.wait_for(lambda: self._committing == 0)
            yield

    def down(self) -> None:
        """Bring the mirror up to date; not while this thread commits a shard."""
        with self._alone(), self._guard:
            ledger = self.fetcher.list(LEDGER, deep=True)
            self._fetch([name for name in ledger if belongs(name)])
            root = self.fetcher.list("")
            self._fetch([name for name in root if belongs(name)])
            nodes = self._nodes()
            for name in nodes:
                self._known.pop(name, None)
            self._fetch(nodes)
            there = {*ledger, *root, *nodes}
            for name in [name for name in self._known if name not in there]:
                (self.folder / name).unlink(missing_ok=True)
                del self._known[name]

    def refresh(self, names: Sequence[str]) -> None:
        """Bring some files of the mirror up to date, and the manifest, while a shard is being committed."""
        with self._guard:
            for name in names:
                self._known.pop(name, None)
            self._fetch(names)
            self._fetch([name for name in self.fetcher.list("") if belongs(name)])

    def put(self, name: str) -> None:
        """Put a file of the mirror into the bucket.

        Raises:
            ConflictError: Another writer has written it since it was mirrored.
        """
        path = self.folder / name
        state, data = path.stat(), path.read_bytes()
        known = self._known.get(name)
        version = self.bucket.put(name, data, known.version if known else None)
        with self._guard:
            self._known[name] = Known(version, state.st_size, state.st_mtime_ns)

    def _nodes(self) -> list[str]:
        """Metadata of the groups and arrays that the root names, and of the negatives."""
        if not (self.folder / METADATA).is_file():
            return []
        attributes = layout.store_attributes(layout.read_metadata(self.folder), self.url)
        nodes: list[str] = []
        for stream in layout.stream_entries(attributes):
            arrays = sorted(self.fetcher.names(stream) - {METADATA})
            nodes += [stream.partition("/")[0], stream, *(f"{stream}/{array}" for array in arrays)]
        names = [f"{node}/{METADATA}" for node in dict.fromkeys(nodes)]
        negatives = self.fetcher.list("negatives", deep=True)
        return names + [name for name in negatives if name.endswith(f"/{METADATA}")]

    def _fetch(self, names: Sequence[str]) -> None:
        """Mirror files, as far as the bucket has another version."""
        wanted = [name for name in names if not self._is_current(name)]
        for name, found in zip(wanted, self.fetcher.read_versions(wanted), strict=True):
            path = self.folder / name
            if found is None:
                path.unlink(missing_ok=True)
                self._known.pop(name, None)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{threading.get_ident():08x}.mirror")
            temporary.write_bytes(found[0])
            temporary.replace(path)
            state = path.stat()
            self._known[name] = Known(found[1], state.st_size, state.st_mtime_ns)

    def _is_current(self, name: str) -> bool:
        known = self._known.get(name)
        return known is not None and known.version == self.fetcher.version(name) and (self.folder / name).is_file()

    def _up(self) -> None:
        """Put what was changed into the bucket, in the order in which it was written, and then remove what is gone."""
        changed = []
        for name, state in local_files(self.folder).items():
            known = self._known.get(name)
            if known is None or (known.size, known.modified_ns) != (state.st_size, state.st_mtime_ns):
                changed.append((state.st_mtime_ns, _rank(name), name))
        try:
            for _, _, name in sorted(changed):
                self.put(name)
        except ConflictError as error:
            raise StoreError(
                f"{self.url}/{error} was changed by another writer meanwhile; run the same command again."
            ) from error
        for name in [name for name in self._known if not (self.folder / name).exists()]:
            if name.startswith(f"{LEDGER}/"):  # a record that the manifest has taken over
                self.bucket.remove(name, self._known[name].version)
            del self._known[name]

    def _discard(self) -> None:
        """Forget the mirror's content: it may have changes that did not reach the bucket."""
        self._known.clear()
        for name in local_files(self.folder):
            (self.folder / name).unlink(missing_ok=True)


def _rank(name: str) -> int:
    """Order of files that were written within one tick of the clock: copies, manifest, arrays, root."""
    if name == METADATA:
        return 3
    if name.endswith(f"/{METADATA}"):
        return 2
    return 0 if name.startswith(f"{LEDGER}/") else 1


_mirrors: dict[str, Mirror] = {}
_pid = os.getpid()
_making = threading.Lock()


def mirror_of(url: str) -> Mirror:
    """This process' mirror of a store; made when it is first asked for, and gone when the process ends."""
    global _pid, _making
    if _pid != os.getpid():  # a forked process must not use its parent's session and folder
        _mirrors.clear()
        _pid, _making = os.getpid(), threading.Lock()
    url = url.rstrip("/")
    with _making:
        if url not in _mirrors:
            _mirrors[url] = Mirror(url)
            atexit.register(_close, url)
        return _mirrors[url]


def mirror_at(folder: Path) -> Mirror | None:
    """The mirror of this process in a folder, if it is one."""
    if _pid != os.getpid():
        return None
    return next((mirror for mirror in _mirrors.values() if mirror.folder == folder), None)


def close_mirror(url: str) -> None:
    """End this process' session at a store before the process ends."""
    with _making:
        mirror = _mirrors.pop(url.rstrip("/"), None)
    if mirror is not None:
        mirror.close()


def _close(url: str) -> None:
    if _pid == os.getpid():
        close_mirror(url)
