"""An option that a command does not have: what was meant, where that can be told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


def option_advice(option: str, command: Any, arguments: Sequence[str]) -> str:
    """What to write instead of an unknown option that names a setting of training.

    Args:
        option: The option, such as `--epochs`.
        command: The command that does not know it; None where that is not known.
        arguments: The command line, for the option's value.

    Returns:
        A clause such as `write --set epochs=3`; empty where the command has no settings or none of this name.

    Example:
        >>> from types import SimpleNamespace
        >>> train = SimpleNamespace(params=[SimpleNamespace(opts=["--set"])])
        >>> option_advice("--epochs", train, ["train", "--epochs", "3"])
        'it is a setting, so write --set epochs=3'
    """
    if not any("--set" in parameter.opts for parameter in getattr(command, "params", ())):
        return ""
    from avem.train.settings.config import PreferenceConfig, SupervisedConfig
    from avem.train.settings.described import setting_names

    name = option.lstrip("-").replace("-", "_")
    off = name.removeprefix("no_")
    names = setting_names(PreferenceConfig, SupervisedConfig)
    if name not in names and off not in names:
        return ""
    if name not in names:
        return f"it is a setting, so write --set {off}=false"
    return f"it is a setting, so write --set {name}={_value(option, arguments) or 'true'}"


def argument_advice(said: str, command: Any) -> str:
    """What Typer says of an argument too many, and the option that a path was meant for.

    Args:
        said: Typer's sentence; any other is returned as it is.
        command: The command that does not take the argument; None where that is not known.

    Example:
        >>> from types import SimpleNamespace
        >>> info = SimpleNamespace(params=[SimpleNamespace(opts=["--cache"])], name="info")
        >>> argument_advice("Got unexpected extra argument(s) (copy)", info)
        "'info' takes no argument 'copy'; if it is the store, write --cache copy"
    """
    found = re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)$", said)
    if found is None or command is None:
        return said
    extra = found[1].split(" ")[0]
    sentence = f"{command.name!r} takes no argument {extra!r}"
    has_store = any("--cache" in parameter.opts for parameter in command.params)
    return f"{sentence}; if it is the store, write --cache {extra}" if has_store else sentence


def _value(option: str, arguments: Sequence[str]) -> str:
    """The value that stands after an option; empty for a switch."""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == option:
            following = arguments[place + 1] if place + 1 < len(arguments) else ""
            return value if equals else "" if following.startswith("--") else following
    return ""
