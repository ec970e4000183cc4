"""int8 features: each token's values as multiples of its largest magnitude / 127, and back to float16.

The kernels hold no lock of Python's and start no threads of their own, so that any thread, and any forked process, may
run them; `avem.cache.disk.readers` runs them on several threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

LEVELS = 127
"""Steps between 0 and the largest magnitude of a token."""

SMALLEST = float(np.finfo(np.float32).tiny)
"""Least scale that can be divided by."""


@intrinsic
def _float16_bits(typingctx: Any, value: Any) -> Any:
    """Bits of a float32 rounded to float16: numba has no float16 on a CPU, LLVM and the CPU do."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.fptrunc(arguments[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), generate


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def quantise_tokens(
    values: npt.NDArray[np.float32],
    largest: npt.NDArray[np.float32],
    quantised: npt.NDArray[np.int8],
    scale: npt.NDArray[np.float32],
) -> float:
    """Quantise tokens with one scale each (symmetric, round half to even); values below 1e-36 become 0.

    Args:
        values: float32 [tokens, C], finite.
        largest: float32 [tokens], the largest magnitude of each (LLVM does not vectorise finding it here).
        quantised: int8 [tokens, C], filled.
        scale: float32 [tokens], filled with `largest` / 127.

    Returns:
        Root mean square of the error over that of the values; 0 for all-zero values.
    """
    squares = 0.0
    errors = 0.0
    for token in range(values.shape[0]):
        step = largest[token] / np.float32(LEVELS)
        scale[token] = step
        inverse = np.float32(0.0) if step < SMALLEST else np.float32(LEVELS) / largest[token]
        token_squares = np.float32(0.0)
        token_errors = np.float32(0.0)
        for channel in range(values.shape[1]):
            value = values[token, channel]
            level = np.rint(value * inverse)
            quantised[token, channel] = np.int8(level)
            difference = value - level * step
            token_errors += difference * difference
            token_squares += value * value
        squares += float(token_squares)
        errors += float(token_errors)
    return np.sqrt(errors / squares) if squares > 0 else 0.0


@njit(nogil=True, cache=True)
def dequantise_tokens(
    quantised: npt.NDArray[np.int8], scale: npt.NDArray[np.float32], bits: npt.NDArray[np.uint16]
) -> None:
    """Undo `quantise_tokens`, into float16.

    Args:
        quantised: int8 [tokens, C].
        scale: float32 [tokens].
        bits: uint16 [tokens, C], filled with the bits of the float16 values.
    """
    for token in range(quantised.shape[0]):
        step = scale[token]
        for channel in range(quantised.shape[1]):
            bits[token, channel] = _float16_bits(  # type: ignore[call-arg]
                np.float32(quantised[token, channel]) * step
            )
