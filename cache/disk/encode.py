"""Feature tensors to and from the bytes that are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from avem.cache.records import StreamSpec
from avem.errors import SettingError

Bytes: TypeAlias = npt.NDArray[np.uint8]

TORCH_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.float16}
"""Type that features come back as."""

UNIT_TOLERANCE = 1e-6
"""Vectors whose norm is this near to 1 are kept as they are, so that copying a store changes no bit."""


SIGN = 1 << 15
"""The sign bit of a 16-bit float."""


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows as they are kept: array name to bytes [n, row bytes], and which rows could be kept at all."""

    arrays: dict[str, Bytes]
    finite: npt.NDArray[np.bool_]
    """[n]; False where a feature is NaN, infinite, or too large for the type."""


def encode_rows(
    spec: StreamSpec, features: torch.Tensor | npt.NDArray[np.floating], pooled: torch.Tensor | npt.NDArray[np.floating]
) -> EncodedRows:
    """Turn features and pooled vectors into the bytes of the stream's arrays.

    Args:
        spec: The stream.
        features: [n, *row_shape], any floating type.
        pooled: [n, pooled_dim]; kept as float32 with L2 norm 1 (a zero vector stays zero).

    Raises:
        SettingError: A shape is not the stream's.
    """
    feature_rows = torch.as_tensor(features).detach().cpu()
    vectors = torch.as_tensor(pooled).detach().cpu().float()
    for name, array, row_shape in (("features", feature_rows, spec.row_shape), ("pooled", vectors, (spec.pooled_dim,))):
        if tuple(array.shape[1:]) != tuple(row_shape):
            raise SettingError(
                f"{name} of {spec.encoder} have shape {tuple(array.shape[1:])} per clip; the stream keeps {row_shape}."
            )
    norm = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    unit = torch.where((norm - 1).abs() < UNIT_TOLERANCE, vectors, torch.nn.functional.normalize(vectors, dim=1))
    finite = torch.isfinite(vectors).all(1)
    if spec.dtype == "int8":
        finite &= _all_finite(feature_rows.to(torch.float16))  # the type they are read as
        arrays = _quantised(feature_rows.float())
    else:
        stored = feature_rows.to(TORCH_DTYPES[spec.dtype]).contiguous()
        finite &= _all_finite(stored)
        arrays = {"features": byte_view(stored)}
    return EncodedRows({**arrays, "pooled": byte_view(unit)}, finite.numpy())


def _all_finite(rows: torch.Tensor) -> torch.Tensor:
    """Whether each row of 16-bit floats [n, ...] holds no NaN and no infinity, bool [n].

    The bits of positive floats are ordered like the floats, and so are those of negative ones by their magnitude, NaN
    above infinity: the largest as a signed number is that of the positive ones, the largest as an unsigned number that
    of the negative ones. Finding both takes a tenth of the time of looking at each float.
    """
    infinity = int(torch.tensor(torch.inf, dtype=rows.dtype).view(torch.int16))
    bits = rows.contiguous().view(torch.int16).numpy().reshape(len(rows), math.prod(rows.shape[1:]))
    return torch.tensor(  # row by row, so that the second look finds the row in the processor's cache
        [int(row.max()) < infinity and int(row.view(np.uint16).max()) < infinity + SIGN for row in bits],
        dtype=torch.bool,
    )


def _quantised(features: torch.Tensor) -> dict[str, Bytes]:
    """The arrays of int8 features of float32 [n, *row_shape]: `features`, `scale` and `error`."""
    from avem.cache.disk.quantise import quantise_tokens  # compiling takes a second that other types need not wait for

    quantised = torch.empty(features.shape, dtype=torch.int8)
    scale = torch.empty(features.shape[:-1], dtype=torch.float32)
    error = torch.empty(len(features), dtype=torch.float32)
    largest = features.abs().amax(-1)
    for row, values in enumerate(features.contiguous()):
        tokens = values.reshape(-1, values.shape[-1]).numpy()
        error[row] = quantise_tokens(
            tokens,
            largest[row].reshape(-1).numpy(),
            quantised[row].reshape(tokens.shape).numpy(),
            scale[row].reshape(-1).numpy(),
        )
    return {"features": byte_view(quantised), "scale": byte_view(scale), "error": byte_view(error)}


def byte_view(rows: torch.Tensor) -> Bytes:
    """A contiguous tensor [n, ...] as its bytes [n, bytes per row], sharing memory."""
    flat = rows.view(len(rows), math.prod(rows.shape[1:]))
    view: Bytes = flat.view(torch.uint8).numpy()
    return view
