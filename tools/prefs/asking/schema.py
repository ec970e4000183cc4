"""JSON Schemas: of the preference row, and of the reply that each step of the pipeline asks for."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema_rs

ROW_SCHEMA, INSTRUCTION_SCHEMA = "preference_row", "instruction_row"


@cache
def load_schema(name: str) -> dict[str, Any]:
    """A published schema by its name, without `.schema.json`."""
    text = (files("avem.tools.prefs") / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@cache
def _validator(name: str) -> Any:
    return jsonschema_rs.validator_for(load_schema(name))


def faults_of(value: object, name: str) -> list[str]:
    """The violations of a schema in a JSON value, one short sentence each; empty if there are none.

    Args:
        value: Any JSON value.
        name: The schema's name.
    """
    validator = _validator(name)
    if validator.is_valid(value):
        return []
    return [_say(error) for error in validator.iter_errors(value)]


def _say(error: Any) -> str:
    where = "/".join(str(part) for part in error.instance_path)
    return f"{where}: {error.message}" if where else str(error.message)
