"""Ways to break a file."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

BAD_VALUES: list[object] = [None, [], {}, -1, 10**400, 1e308, "", "\ud800", "\0", True, [[]], {"a": []}, float("nan")]


def _swapped(value: object, rng: random.Random) -> object:
    """The JSON value with one of its parts replaced."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(list(value))
        return {**value, name: _swapped(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        index = rng.randrange(len(value))
        return [*value[:index], _swapped(value[index], rng), *value[index + 1 :]]
    return rng.choice(BAD_VALUES)


def _swap_json(data: bytes, rng: random.Random) -> bytes:
    try:
        return json.dumps(_swapped(json.loads(data), rng)).encode()
    except (ValueError, RecursionError):
        lines = data.splitlines() or [b"{}"]
    index = rng.randrange(len(lines))
    try:
        lines[index] = json.dumps(_swapped(json.loads(lines[index]), rng)).encode()
    except ValueError:
        lines[index] = rng.choice([b"[" * 3000, b"a = [1e999, nan]", b'x = "', b"seed = " + b"9" * 5000])
    return b"\n".join(lines)


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _flip_head(data: bytes, rng: random.Random) -> bytes:
    return _flip(data[:256], rng) + data[256:]


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    _swap_json,
    _swap_json,
    _flip,
    _flip_head,
    lambda data, rng: data[: rng.randrange(len(data) + 1)],
    lambda data, rng: rng.randbytes(rng.randrange(200)),
    lambda data, rng: b"",
    lambda data, rng: b"[" * 200_000,
    lambda data, rng: b"\xef\xbb\xbf" + data,
    lambda data, rng: data.decode(errors="replace").encode("utf-16"),
    lambda data, rng: data[: len(data) // 2] + b"\xff\0" + data[len(data) // 2 :],
]
