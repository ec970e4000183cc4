"""`avem cache logps`: the scores of preference rows that training does not change, computed ahead of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avem.text.terminal import show


def logps(
    cache: Annotated[Path | None, typer.Option(help="Feature store. [default: ./cache]")] = None,
    prefs: Annotated[Path | None, typer.Option(help="Preference rows. [default: ./preferences.jsonl]")] = None,
    model: Annotated[
        str | None, typer.Option(help="Reference model: a folder or a hub id. [default: chaubeyG/AVERE-7B]")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Named settings, as for `avem train`.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="One setting as option=value; may be repeated.")
    ] = None,
) -> None:
    """Compute reference and text-prior scores and keep them in the store; `avem train` then finds them there."""
    from avem.guards.inputs import need_file, need_model, need_store
    from avem.train.settings.config import PreferenceConfig
    from avem.train.stages import stage_config

    given = {"cache": cache, "prefs": prefs, "model": model}
    settings = stage_config("preference", given, preset_name=preset, file=config, overrides=overrides or ())
    if isinstance(settings, PreferenceConfig):
        need_store(settings.cache)
        need_file(settings.prefs, "--prefs")
        need_model(settings.model)
        from avem.train.preference import cache_logprobs

        show(f"The store holds all {cache_logprobs(settings):,} constant scores of these rows.")
