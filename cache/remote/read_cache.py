"""Parts of remote stores kept on a local disk, up to a size, for every process of the machine.

A part is a file of its own with a checksum over its content and its key; the key names the store, the object, the
object's version and the range, so that a changed object has other parts. A part is written under a temporary name and
renamed. One counter of bytes, changed under a lock, is shared by all processes; the one that makes it exceed the limit
removes the parts that were used least recently. A disk that is full, or can't be written, means reading without.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import struct
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import google_crc32c
import numpy as np

from avem.errors import AvemError, SettingError, StoreError
from avem.guards.disk import disk_reason
from avem.guards.output_kinds import READ_CACHE, mark
from avem.guards.outputs import folder_target
from avem.systems import lock_file

logger = logging.getLogger(__name__)

VARIABLE = "AVEM_READ_CACHE"
"""Environment variable that gives the size, and the folder after a colon."""
UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
MAGIC = b"avempart"
HEAD = struct.Struct("<8sIQ")
"""Magic, CRC-32C of the key's digest and the data, length of the data."""
PART = re.compile(r"[0-9a-f]{64}(\.[0-9a-f]{8}\.tmp)?")
USED_AGAIN_S = 60.0
"""A part's time of use is written at most this often."""
ROOM_LEFT = 0.1
"""Share of the limit that is free after parts were removed."""
KILLED_S = 3600.0
"""Age from which a temporary file is what a killed process left."""


class ReadCache:
    """A folder of parts.

    Threads and processes may share one, and it can be pickled.

    Args:
        limit: Most bytes that its parts take.
        folder: Where; made if missing. It holds nothing else.

    Raises:
        SettingError: The folder holds something that avem did not make, or the limit is not positive.
    """

    def __init__(self, limit: int, folder: Path) -> None:
        if limit <= 0:
            raise SettingError(f"A read cache of {limit} bytes holds nothing; give a size such as 200GB.")
        self.limit = limit
        self.folder = folder.expanduser()
        self._parts = self.folder / "parts"
        self._off = False
        try:
            self.folder = folder_target(self.folder, READ_CACHE, option="--read-cache")
            self._parts = self.folder / "parts"
            self.folder.mkdir(parents=True, exist_ok=True)
            mark(self.folder, READ_CACHE)
            self._parts.mkdir(exist_ok=True)
            with self._counter():
                pass
        except SettingError:
            raise
        except (OSError, StoreError) as error:
            self._turn_off(error)

    @classmethod
    def parse(cls, text: str) -> ReadCache:
        """Understand `200GB` or `200GB:/fast/disk`; without a folder it is `avem/reads` in the user's cache folder.

        Raises:
            SettingError: It is not a size, or see `ReadCache`.

        Example:
            >>> ReadCache.parse("200GB:/scratch/reads").limit           # doctest: +SKIP
            200000000000
        """
        size, _, folder = text.partition(":")
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MB|GB|TB)", size.strip(), re.IGNORECASE)
        if match is None:
            raise SettingError(f"{text!r} is not the size of a read cache; give one such as 200GB or 200GB:/fast/disk.")
        return cls(int(float(match[1]) * UNITS[match[2].upper()]), Path(folder) if folder else default_folder())

    @classmethod
    def from_environment(cls) -> ReadCache | None:
        """The read cache that `AVEM_READ_CACHE` asks for, if it does; raises as `parse`."""
        text = os.environ.get(VARIABLE, "")
        return cls.parse(text) if text else None

    def __reduce__(self) -> tuple[type[ReadCache], tuple[int, Path]]:
        return ReadCache, (self.limit, self.folder)

    def get(self, key: str) -> bytes | None:
        """A part's data, or None where it is not kept or is damaged."""
        if self._off:
            return None
        digest = hashlib.sha256(key.encode()).digest()
        path = self._path(digest)
        try:
            data = _unpack(path.read_bytes(), digest)
            if data is None:
                self._remove(path)
            else:
                self._touch(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._turn_off(error)
            return None
        return data

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Keep a part; never fails: a disk that can't take it is reported once, and then left alone."""
        size = HEAD.size + len(data)
        if self._off or size > self.limit:
            return
        digest = hashlib.sha256(key.encode()).digest()
        path = self._path(digest)
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            if path.exists():
                self._remove(path)  # it is damaged, or the caller found that it does not fit
            self._reserve(size)
            path.parent.mkdir(exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    file.write(HEAD.pack(MAGIC, _checksum(digest, data), len(data)))
                    file.write(data)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            self._turn_off(error)

    def size(self) -> int:
        """Bytes that the parts take, counted anew."""
        return sum(size for _, size, _ in self._entries())

    def _path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self._parts / name[:2] / name

    def _touch(self, path: Path) -> None:
        """Note that a part was used just now."""
        try:
            if time.time() - path.stat().st_mtime > USED_AGAIN_S:
                os.utime(path)
        except FileNotFoundError:
            return  # another process removed it since

    def _reserve(self, size: int) -> None:
        """Count bytes that are about to be written, and make room for them."""
        with self._counter() as counter:
            if counter.value + size > self.limit:
                counter.value = self._evict(self.limit * (1 - ROOM_LEFT) - size)
            counter.value += size

    def _evict(self, target: float) -> int:
        """Remove parts, the least recently used first, until they take no more than `target` bytes; what they take."""
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        for used, size, path in entries:
            is_whole = not path.name.endswith(".tmp")
            if is_whole and total <= target:
                break
            if is_whole or time.time() - used > KILLED_S:
                path.unlink(missing_ok=True)
                total -= size
        return total

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """Time of last use, bytes and path of each part; whatever else is in the folder is left alone."""
        for group in self._parts.iterdir():
            if not re.fullmatch("[0-9a-f]{2}", group.name) or not group.is_dir() or group.is_symlink():
                continue
            with os.scandir(group) as items:
                for item in items:
                    if PART.fullmatch(item.name) and item.is_file(follow_symlinks=False):
                        try:
                            state = item.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        yield state.st_mtime, state.st_size, Path(item.path)

    def _remove(self, path: Path) -> None:
        """Remove one part and count its bytes as free."""
        with self._counter() as counter:
            try:
                size = path.stat().st_size
                path.unlink()
            except FileNotFoundError:
                return
            counter.value = max(counter.value - size, 0)

    @contextmanager
    def _counter(self) -> Iterator[_Counter]:
        """The bytes that all processes have counted, held by this one."""
        handle = os.open(self.folder / "bytes", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            lock_file(handle, exclusive=True, wait=True)
            text = os.read(handle, 32)
            counter = _Counter(int(text) if text.isdigit() else self.size())
            before = counter.value if text else None
            try:
                yield counter
            finally:
                if counter.value != before:
                    os.lseek(handle, 0, os.SEEK_SET)
                    os.write(handle, f"{counter.value:020d}".encode())
        finally:
            os.close(handle)

    def _turn_off(self, error: OSError | AvemError) -> None:
        if not self._off:
            why = disk_reason(error) if isinstance(error, OSError) else str(error).rstrip(".")
            logger.warning("Reading without the cache %s: %s.", self.folder, why)
        self._off = True


class _Counter:
    """A number of bytes."""

    def __init__(self, value: int) -> None:
        self.value = value


def default_folder() -> Path:
    """`avem/reads` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "avem" / "reads"


def _checksum(digest: bytes, data: bytes | memoryview) -> int:
    return int(google_crc32c.extend(google_crc32c.value(digest), np.frombuffer(data, dtype=np.uint8)))


def _unpack(content: bytes, digest: bytes) -> bytes | None:
    """A part's data, if the file is whole and of this key."""
    if len(content) < HEAD.size:
        return None
    magic, checksum, length = HEAD.unpack_from(content)
    data = content[HEAD.size :]
    if magic != MAGIC or length != len(data) or checksum != _checksum(digest, data):
        return None
    return data
