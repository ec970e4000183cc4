"""Copying rows and computing their CRC-32C in one pass over memory, so that checking what is read costs little.

A row is larger than a processor's cache: a checksum after the copy reads it from memory a second time. The kernel here
keeps each word in a register while it copies it, and computes three checksums side by side, because the processor's
instruction has three times the latency of its throughput. It holds no lock of Python's, so threads run it at once.

Compiling takes about a second. Reading a few rows does not wait for it: `google_crc32c` checks the first ones.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache

import google_crc32c
import numpy as np
import numpy.typing as npt

COMPILE_AFTER_BYTES = 2**28
"""Bytes after which compiling the kernel pays off."""
STEP = 2**20
"""Bytes that are copied and then checked while they are still in the processor's cache."""

RowBytes = npt.NDArray[np.uint8]
Kernel = Callable[[npt.NDArray[np.uint64], npt.NDArray[np.uint64]], int]
ChunkKernel = Callable[[RowBytes, npt.NDArray[np.int64], int, RowBytes], int]

_copied = 0


def checked_copy(source: RowBytes, target: RowBytes) -> int:
    """Copy bytes, and return the CRC-32C of what was copied.

    Args:
        source: uint8 [n], contiguous.
        target: uint8 [n], contiguous; filled.
    """
    global _copied
    _copied += len(source)
    kernel = compiled_kernel() if _copied > COMPILE_AFTER_BYTES and has_instruction() else None
    if kernel is None:
        return _copy_by_steps(source, target)
    words = len(source) // 8 * 8
    checksum = kernel(source[:words].view(np.uint64), target[:words].view(np.uint64))
    target[words:] = source[words:]
    return int(google_crc32c.extend(checksum, target[words:]))


def chunk_kernel(total: int, chunk_bytes: int) -> ChunkKernel | None:
    """The kernel that copies and checks many chunks in one call, where it can be had and has paid off.

    Args:
        total: Bytes that are about to be copied.
        chunk_bytes: Length of a chunk.
    """
    global _copied
    _copied += total
    if chunk_bytes % 8 or _copied <= COMPILE_AFTER_BYTES or not has_instruction():
        return None
    from avem.cache.disk.crc_kernel import copy_row_chunks

    return copy_row_chunks


@cache
def has_instruction() -> bool:
    """Whether this processor has the instruction that the kernel is made of (x86 with SSE 4.2)."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    from llvmlite import binding  # type: ignore[import-untyped]

    return bool(binding.get_host_cpu_features().get("sse4.2", False))


@cache
def compiled_kernel() -> Kernel:
    """The kernel, compiled when it is first asked for; it takes and fills uint64 [words]."""
    from avem.cache.disk.crc_kernel import copy_words

    return copy_words


def _copy_by_steps(source: RowBytes, target: RowBytes) -> int:
    checksum = 0
    for start in range(0, len(source), STEP):
        part = target[start : start + STEP]
        np.copyto(part, source[start : start + STEP])
        checksum = google_crc32c.extend(checksum, part)
    return checksum
