"""Feature tensors to and from the bytes that are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from avem.cache.spec import RowShape, StreamSpec, sized
from avem.errors import SettingError

Bytes: TypeAlias = npt.NDArray[np.uint8]
ByteRows: TypeAlias = "Sequence[Bytes] | Bytes"
"""Bytes of each row: uint8 [n, row bytes], or n arrays."""

TORCH_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.float16}
"""Type that features come back as."""

UNIT_TOLERANCE = 1e-6
"""Vectors whose norm is this near to 1 are kept as they are, so that copying a store changes no bit."""


SIGN = 1 << 15
"""The sign bit of a 16-bit float."""


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows as they are kept, and which rows could be kept at all."""

    arrays: dict[str, ByteRows]
    """Array name to the bytes of each row, uint8 [row bytes]; of a row that can't be kept, anything."""
    problems: list[str]
    """Of each row why it can't be kept; empty where it can."""
    lengths: list[int]
    """Tokens of each row whose length differs by clip; empty for fixed rows."""


Rows: TypeAlias = "torch.Tensor | npt.NDArray[Any] | Sequence[torch.Tensor | npt.NDArray[Any] | None]"
"""[n, ...], or n arrays where the length differs by clip; None for a clip that failed."""

UNFIT = "features hold NaN or infinity, or are too large for {dtype}"
EMPTY = "has no tokens"
TOO_LONG = "has {tokens} tokens, and this stream keeps up to {longest} a clip"
NOT_FINITE = "the companion {name} holds NaN or infinity"


def encode_rows(
    spec: StreamSpec, features: Rows, pooled: Rows, companions: Mapping[str, Rows] = MappingProxyType({})
) -> EncodedRows:
    """Turn features, pooled vectors and companions into the bytes of the stream's arrays.

    Args:
        spec: The stream.
        features: [n, *row_shape], any floating type; n tensors [n_i, C] for a stream of rows of any length.
        pooled: [n, pooled_dim]; kept as float32 with L2 norm 1 (a zero vector stays zero).
        companions: Name to [n, *row_shape] of the companion, or to n arrays where it follows the row's length.

    Raises:
        SettingError: A shape is not the stream's, or companions are not those that the stream has.
    """
    vectors = torch.as_tensor(pooled).detach().cpu().float()
    _check_shape(spec, "pooled", tuple(vectors.shape[1:]), (spec.pooled_dim,))
    norm = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    unit = torch.where((norm - 1).abs() < UNIT_TOLERANCE, vectors, torch.nn.functional.normalize(vectors, dim=1))
    arrays: dict[str, ByteRows] = {"pooled": byte_view(unit)}
    lengths: list[int] = []
    unfit = UNFIT.format(dtype=spec.dtype)
    if spec.ragged:
        kept, problems, lengths = _ragged(spec, features)
        arrays |= kept
        arrays["offsets"] = byte_view(torch.zeros(len(lengths), 2, dtype=torch.int64))  # known once rows have a place
    else:
        rows = torch.as_tensor(features).detach().cpu()
        _check_shape(spec, "features", tuple(rows.shape[1:]), spec.row_shape)
        kept, finite = _kept(spec, rows)
        arrays |= kept
        problems = ["" if good else unfit for good in finite.tolist()]
    good_vectors = torch.isfinite(vectors).all(1).tolist()
    problems = [problem or ("" if good else unfit) for problem, good in zip(problems, good_vectors, strict=True)]
    if set(companions) != set(spec.companions):
        raise SettingError(
            f"Rows of {spec.name} come with the companions {', '.join(spec.companions) or 'none'}, not with "
            f"{', '.join(companions) or 'none'}."
        )
    for name, values in companions.items():
        arrays[name] = _companion_rows(spec, name, values, lengths, problems)
    return EncodedRows(arrays, problems, lengths)


def _kept(spec: StreamSpec, rows: torch.Tensor) -> tuple[dict[str, ByteRows], torch.Tensor]:
    """The arrays that features [n, *row_shape] become, and which rows are finite in the type they are read as."""
    if spec.dtype == "int8":
        arrays: dict[str, ByteRows] = {**_quantised(rows.float())}
        return arrays, _all_finite(rows.to(torch.float16))
    stored = rows.to(TORCH_DTYPES[spec.dtype]).contiguous()
    return {"features": byte_view(stored)}, _all_finite(stored)


def _ragged(spec: StreamSpec, features: Rows) -> tuple[dict[str, ByteRows], list[str], list[int]]:
    """Arrays, problems and lengths of rows of any length."""
    names = ("features", "scale", "error") if spec.dtype == "int8" else ("features",)
    arrays: dict[str, list[Bytes]] = {name: [] for name in names}
    problems, lengths = [], []
    for given in features:
        row = torch.zeros(spec.sized(0)) if given is None else torch.as_tensor(given).detach().cpu()
        _check_shape(spec, "features", tuple(row.shape), spec.sized(len(row)))
        lengths.append(len(row))
        if not 1 <= len(row) <= spec.longest:
            problems.append(EMPTY if not len(row) else TOO_LONG.format(tokens=len(row), longest=spec.longest))
            for rows in arrays.values():
                rows.append(np.zeros(0, dtype=np.uint8))
            continue
        kept, finite = _kept(spec, row[None])
        problems.append("" if finite[0] else UNFIT.format(dtype=spec.dtype))
        for name, rows in arrays.items():
            rows.append(kept[name][0])
    return {**arrays}, problems, lengths


def _companion_rows(
    spec: StreamSpec, name: str, values: Rows, lengths: Sequence[int], problems: list[str]
) -> list[Bytes]:
    """Bytes of each row of a companion; a row that is not finite becomes a problem."""
    companion = spec.companions[name]
    dtype = getattr(torch, companion.dtype)
    if len(values) != len(problems):
        raise SettingError(f"{spec.name} came with {len(values)} rows of {name} for {len(problems)} clips.")
    kept = []
    for index, value in enumerate(values):
        shape = sized(companion.row_shape, lengths[index] if companion.ragged else 0)
        row = torch.zeros(shape) if value is None else torch.as_tensor(value).detach().cpu()
        if value is not None and not problems[index]:
            _check_shape(spec, name, tuple(row.shape), shape)
        row = row.to(dtype).contiguous()
        if dtype.is_floating_point and not problems[index] and not bool(torch.isfinite(row).all()):
            problems[index] = NOT_FINITE.format(name=name)
        kept.append(byte_view(row.reshape(1, -1))[0])
    return kept


def _check_shape(spec: StreamSpec, what: str, given: tuple[int, ...], wanted: RowShape) -> None:
    if given != tuple(wanted):
        raise SettingError(f"{what} of {spec.encoder} have shape {given} per clip; the stream keeps {tuple(wanted)}.")


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
