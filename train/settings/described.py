"""The settings of a run as a table: names, values that they take, defaults, and what they mean."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from avem.train.settings.config import RunConfig


@dataclasses.dataclass(frozen=True, slots=True)
class Described:
    """One setting."""

    name: str
    takes: str
    """Its values, in words."""
    default: str
    meaning: str


def described(config: type[RunConfig]) -> list[Described]:
    """The settings of a kind of run, in the order of its class; without those that have no default, the run's files.

    Example:
        >>> from avem.train.settings.config import PreferenceConfig
        >>> [(each.takes, each.default) for each in described(PreferenceConfig) if each.name == "epochs"]
        [('a whole number', '1')]
    """
    kinds, meanings = get_type_hints(config), _meanings(config)
    return [
        Described(field.name, _takes(kinds[field.name]), _as_toml(field.default), meanings.get(field.name, ""))
        for field in dataclasses.fields(config)
        if field.default is not dataclasses.MISSING
    ]


def setting_names(*configs: type[RunConfig]) -> set[str]:
    """Names that `--set` takes in any of these kinds of run."""
    return {field.name for config in configs for field in dataclasses.fields(config)}


def _meanings(config: type[RunConfig]) -> dict[str, str]:
    """What the source says under each field, of the class and of those that it extends; the nearest counts."""
    found: dict[str, str] = {}
    for each in reversed(config.__mro__):
        if dataclasses.is_dataclass(each):
            body = ast.parse(inspect.getsource(each)).body[0]
            found |= _documented(body.body if isinstance(body, ast.ClassDef) else [])
    return found


def _documented(body: list[ast.stmt]) -> dict[str, str]:
    pairs = pairwise(body)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairs
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def _takes(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    parts = [part for part in get_args(kind) if part is not NoneType] or [kind]
    words = {int: "a whole number", float: "a number", bool: "true, false", str: "text", Path: "a path"}
    return words[parts[0]]


def _as_toml(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
