"""HDF5 files written so that a full disk ends in an error: HDF5's own file writing crashes the process there."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import h5py


def write_hdf5(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """Write an HDF5 file.

    Args:
        path: The file; it is left half written where anything fails.
        fill: Writes the content.

    Raises:
        OSError: The disk took only a part.
    """
    with path.open("w+b", buffering=0) as raw:
        sink = _Sink(raw)
        try:
            with h5py.File(sink, "w") as file:
                fill(file)
        except Exception:
            sink.check()  # what HDF5 says of a file that was cut off is not the cause
            raise
        sink.check()


class _Sink(io.RawIOBase):
    """A file for HDF5 that never fails to write: it keeps the first error, and everything after that is dropped.

    HDF5 closes a file by writing what it still holds. Where that fails it keeps the file open, and crashes when the
    process ends.
    """

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self._error: OSError | None = None
        self._position = 0

    def check(self) -> None:
        """Raise the first error."""
        if self._error is not None:
            raise self._error

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}
        self._position = offset + (start[whence] if whence in start else self._raw.seek(0, io.SEEK_END))
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._raw.seek(self._position)
        count = self._raw.readinto(buffer) or 0
        if self._error is not None and count < len(buffer):
            buffer[count:] = bytes(len(buffer) - count)  # what was dropped
            count = len(buffer)
        self._position += count
        return count

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        view = memoryview(data).cast("B")
        if self._error is None:
            try:
                self._raw.seek(self._position)
                rest = view
                while rest:
                    rest = rest[self._raw.write(rest) or 0 :]
            except OSError as error:
                self._error = error
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        if self._error is None:
            try:
                self._raw.truncate(size)
            except OSError as error:
                self._error = error
        return size

    def flush(self) -> None:
        """Nothing is held back."""
