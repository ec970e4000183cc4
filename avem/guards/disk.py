"""Faults of the disk while something is written, reported in one sentence instead of a traceback."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avem.errors import AvemError, WriteError

AGAIN = "and run the same command again"
REASONS = {
    errno.ENOSPC: f"the disk is full; make room {AGAIN}",
    errno.EDQUOT: f"your quota on the disk is used up; make room {AGAIN}",
    errno.EROFS: "the disk is read-only; give another path",
    errno.EACCES: "permission is denied; change the permissions or give another path",
    errno.EPERM: "the operation is not permitted; change the permissions or give another path",
    errno.ENAMETOOLONG: "the name is too long; give a shorter one",
    errno.ELOOP: "its symbolic links lead in a circle; give another path",
    errno.ENOTDIR: "a part of the path is a file; give another path",
    errno.EISDIR: "it is a folder; give the path of a file",
    errno.EFBIG: f"the file is larger than the limit here; raise the limit (`ulimit -f`) {AGAIN}",
    errno.EIO: f"the disk reports an error; check the disk {AGAIN}",
    errno.ESTALE: f"the network drive is gone; mount it {AGAIN}",
    errno.ENOENT: "there is no such file or folder; check the path",
    errno.EEXIST: "it exists already; give another path",
    errno.ENOTEMPTY: "the folder is not empty; give another path",
    errno.EMFILE: f"too many files are open; raise the limit (`ulimit -n`) {AGAIN}",
    errno.ETXTBSY: "it is a program that runs now; give another path",
    errno.EBUSY: "it is in use; give another path",
}
"""What each number of an `OSError` means for the user, and what to do."""
UNKNOWN = f"the disk took only a part; make room {AGAIN}"
TORCH_WRITER = re.compile(r"PytorchStreamWriter failed|unexpected pos \d+ vs \d+")


def disk_fault(error: BaseException) -> str | None:
    """Why the disk refused, and what to do; None where the error is not about the disk.

    Torch and safetensors report a full disk by errors of their own, which are recognised too.
    """
    if isinstance(error, OSError):
        return REASONS.get(error.errno or 0)
    if type(error).__name__ == "SafetensorError" and (found := re.search(r"os error (\d+)", str(error))):
        return REASONS.get(int(found[1]), UNKNOWN)
    if isinstance(error, RuntimeError) and TORCH_WRITER.search(str(error)):
        return UNKNOWN
    return None


def disk_reason(error: OSError) -> str:
    """Why something can't be written or read and what to do, as the second half of a sentence without its stop."""
    return disk_fault(error) or str(error.strerror or error)


def os_error_sentence(error: OSError) -> str | None:
    """A sentence for an `OSError` that nothing else caught; None where it is a fault of the program.

    Args:
        error: It has a file name, or its number is one that only a disk gives.
    """
    reason = disk_fault(error)
    if reason is None:
        return None
    if error.filename is not None:
        return f"{_name(error.filename)} can't be used: {reason}."
    only_disks = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
    return f"A file can't be written: {reason}." if error.errno in only_disks else None


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn what the disk refuses inside the block into a `WriteError` that names the path.

    Args:
        path: What is being written.

    Raises:
        WriteError: The disk is full or read-only, permission is denied, and so on.
    """
    try:
        yield
    except AvemError:
        raise
    except Exception as error:  # safetensors' own error has no narrower base
        if (reason := disk_fault(error)) is None:
            raise
        found = WriteError(f"{path} can't be written: {reason}.")
        found.errno = (error.errno if isinstance(error, OSError) else None) or errno.ENOSPC
        found.strerror = os.strerror(found.errno)
        raise found from error


def _name(filename: object) -> str:
    return filename.decode(errors="replace") if isinstance(filename, bytes) else str(filename)
