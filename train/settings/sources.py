"""Settings from presets, a TOML file and `key=value` overrides, each checked against the type of its option."""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

from avem import reading
from avem.errors import DataError, MissingFileError, SettingError

Config = TypeVar("Config")


def typed_value(option: str, value: Any, kind: Any) -> Any:
    """The value as the option's type, without guessing: 1 is a fine float, "1" is not.

    Args:
        option: Name for the error message.
        value: What was given.
        kind: `int`, `float`, `bool`, `str`, `Path`, a `Literal` of texts, or one of these `| None`.

    Raises:
        SettingError: The value is of another type, or not one of the choices.
    """
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise SettingError(f"{option} is {value!r}; it must be one of {', '.join(get_args(kind))}.")
        return value
    if NoneType in get_args(kind):
        if value is None:
            return None
        kind = next(part for part in get_args(kind) if part is not NoneType)
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind is str and isinstance(value, Path):
        return str(value)
    if type(value) is kind and kind is not float:
        return value
    raise SettingError(f"{option} is {value!r}; it must be {_in_words(kind)}.")


def _in_words(kind: Any) -> str:
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text", Path: "a path"}
    return words.get(kind, str(kind))


def parse_override(text: str) -> tuple[str, Any]:
    """Split `key=value`; the value is read as TOML (numbers, true, "text") and otherwise taken as the text it is.

    Raises:
        SettingError: There is no equals sign.
    """
    option, equals, value = text.partition("=")
    if not equals:
        raise SettingError(f"--set {text} has no value; write it as option=value.")
    try:
        return option.strip(), reading.parse_toml(f"value = {value}", f"--set {option.strip()}")["value"]
    except DataError as error:
        if isinstance(error.__cause__, tomllib.TOMLDecodeError):
            return option.strip(), value.strip()
        raise SettingError(f"--set {option.strip()} has a value that can't be used; give a shorter one.") from error


def read_toml(path: Path) -> dict[str, Any]:
    """A flat TOML file of settings.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is not TOML.
    """
    if not path.is_file():
        raise MissingFileError(f"There is no settings file {path}; name an existing one with --config.")
    return reading.read_toml(path)


def build_config(
    kind: type[Config],
    given: Mapping[str, Any],
    *,
    preset: Mapping[str, Any] | None = None,
    file: Path | None = None,
    overrides: Sequence[str] = (),
) -> Config:
    """Make a configuration; later sources win: defaults, preset, file, given, overrides.

    Args:
        kind: The configuration's dataclass.
        given: Settings that the caller names, such as paths.
        preset: Settings of a preset.
        file: A TOML file of settings.
        overrides: `option=value` texts.

    Raises:
        SettingError: An option is unknown, missing, or has a value that it can't take.
    """
    settings = {**(preset or {}), **(read_toml(file) if file else {}), **given, **dict(map(parse_override, overrides))}
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for option in settings:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known ones: {', '.join(known)}."
            raise SettingError(f"There is no option {option}; {hint}")
    try:
        return kind(**settings)
    except TypeError as error:
        raise SettingError(f"A setting is missing: {error}.") from error
