"""The compiled part of `avem.cache.disk.checked_copy`, for x86 processors with SSE 4.2."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

Words = npt.NDArray[np.uint64]

POLYNOMIAL = 0x82F63B78
"""Castagnoli's, bits reversed."""
INSTRUCTION = "llvm.x86.sse42.crc32.64.64"
LANE = 512
"""Words of each of the three lanes that are checked side by side."""


@intrinsic
def _next_register(typingctx: Any, checksum: Any, word: Any) -> Any:
    """The checksum register after eight more bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer = ir.IntType(64)
        function = builder.module.globals.get(INSTRUCTION) or ir.Function(
            builder.module, ir.FunctionType(integer, [integer, integer]), INSTRUCTION
        )
        return builder.call(function, arguments)

    return types.uint64(types.uint64, types.uint64), generate


_next: Any = _next_register  # called in compiled code alone, with the arguments that remain there


def _after_zeros(count: int) -> Words:
    """What a register becomes after `count` zero bytes, as a table: uint64 [4, 256], by byte of the register.

    The step by one zero byte is linear over bits, so `count` steps are a power of its matrix, found by squaring.
    """
    power = [1 << bit for bit in range(32)]
    square = [_after_zero(column) for column in power]
    while count:
        if count & 1:
            power = [_apply(square, column) for column in power]
        square = [_apply(square, column) for column in square]
        count >>= 1
    table = [[_apply(power, value << (8 * byte)) for value in range(256)] for byte in range(4)]
    return np.array(table, dtype=np.uint64)


def _after_zero(register: int) -> int:
    for _ in range(8):
        register = (register >> 1) ^ (POLYNOMIAL if register & 1 else 0)
    return register


def _apply(matrix: list[int], register: int) -> int:
    result = 0
    for bit in range(32):
        if register >> bit & 1:
            result ^= matrix[bit]
    return result


AFTER_LANE = _after_zeros(8 * LANE)
AFTER_TWO_LANES = _after_zeros(16 * LANE)


@njit(nogil=True, cache=True)
def _look_up(table: Words, register: np.uint64) -> np.uint64:
    after: np.uint64 = (
        table[0, register & 255]
        ^ table[1, register >> 8 & 255]
        ^ table[2, register >> 16 & 255]
        ^ table[3, register >> 24 & 255]
    )
    return after


@njit(nogil=True, cache=True)
def copy_words(source: Words, target: Words) -> int:
    """Copy words and return their CRC-32C.

    Args:
        source: uint64 [n], little endian, of any alignment.
        target: uint64 [n]; filled.
    """
    first: Any = np.uint64(0xFFFFFFFF)
    position = 0
    while position + 3 * LANE <= len(source):
        second: Any = np.uint64(0)
        third: Any = np.uint64(0)
        for index in range(position, position + LANE):
            a, b, c = source[index], source[index + LANE], source[index + 2 * LANE]
            target[index], target[index + LANE], target[index + 2 * LANE] = a, b, c
            first, second, third = _next(first, a), _next(second, b), _next(third, c)
        first = _look_up(AFTER_TWO_LANES, first) ^ _look_up(AFTER_LANE, second) ^ third
        position += 3 * LANE
    while position < len(source):
        target[position] = source[position]
        first = _next(first, source[position])
        position += 1
    checksum: int = first ^ np.uint64(0xFFFFFFFF)
    return checksum


@njit(nogil=True, cache=True)
def copy_row_chunks(
    file: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], chunk_bytes: int, target: npt.NDArray[np.uint8]
) -> int:
    """Copy a row's whole chunks out of a file, and compare each with the checksum behind it.

    Args:
        file: uint8 [file bytes].
        offsets: int64 [n], where each chunk begins.
        chunk_bytes: Length of a chunk, a multiple of 8.
        target: uint8 [n * chunk_bytes or more]; filled.

    Returns:
        Number of the first chunk that does not match, or -1.
    """
    for number in range(len(offsets)):
        start, end, at = offsets[number], offsets[number] + chunk_bytes, number * chunk_bytes
        words = file[start:end].view(np.uint64)
        checksum = copy_words(words, target[at : at + chunk_bytes].view(np.uint64))
        kept = np.uint64(0)
        for byte in range(4):
            kept |= np.uint64(file[end + byte]) << np.uint64(8 * byte)
        if np.uint64(checksum) != kept:
            return number
    return -1
