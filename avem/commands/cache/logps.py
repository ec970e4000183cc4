"""`avem cache logps`: compute the scores of preference rows that stay constant during training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avem.commands.options import ConfigOption, ReadCacheOption, SetOption
from avem.starts import DEFAULT_BASE
from avem.text.terminal import show


def logps(
    cache: Annotated[Path | None, typer.Option(help="The feature store.", show_default="./cache")] = None,
    read_cache: ReadCacheOption = None,
    prefs: Annotated[
        Path | None, typer.Option(help="File of preference rows.", show_default="./preferences.jsonl")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Reference model: a folder or a hub id.", show_default=DEFAULT_BASE)
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Named settings, as for `avem train`.", show_default="paper")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Compute reference and text-prior scores once.

    The store keeps them, and `avem train` reads them from there.
    """
    from avem.guards.inputs import need_file, need_model, need_store
    from avem.train import PreferenceConfig
    from avem.train.stages import check_default_base, stage_config

    given = {"cache": cache, "prefs": prefs, "model": model}
    settings = stage_config("preference", given, preset_name=preset, file=config, overrides=overrides or ())
    if isinstance(settings, PreferenceConfig):
        need_store(settings.cache)
        need_file(settings.prefs, "--prefs")
        need_model(settings.model)
        check_default_base(settings.cache, settings.model)
        from avem.train import cache_logprobs

        show(f"The store holds all {cache_logprobs(settings):,} constant scores of these rows.")
