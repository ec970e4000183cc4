"""`avem models merge`: fold what a run trained into its base."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from avem.text.terminal import show


class MergedLayout(StrEnum):
    """How the merged model is written."""

    AVEM = "avem"
    AVERE = "avere"


class MergedFormat(StrEnum):
    """Number format of the merged weights."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def merge(
    source: Annotated[str, typer.Argument(metavar="RUN_OR_ADAPTER", help="A run, its final/, or peft's adapter.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; a model that avem wrote there before is replaced.")],
    base: Annotated[
        str | None, typer.Option(help="Model that a bare adapter belongs to. [default: as it says]")
    ] = None,
    layout: Annotated[MergedLayout, typer.Option(help="avem's own, or AVERE's for its tools.")] = MergedLayout.AVEM,
    towers: Annotated[
        str | None, typer.Option(help="AVERE checkpoint to take the encoders from, for --layout avere. [default: base]")
    ] = None,
    dtype: Annotated[
        MergedFormat | None, typer.Option(help="Number format of the weights. [default: the base's]")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="For the model card, such as cc-by-nc-4.0. [default: the base's]")
    ] = None,
) -> None:
    """Write a whole model from a base and what a run trained on it."""
    from avem.guards.inputs import need_model
    from avem.guards.output_kinds import AVERE, MODEL
    from avem.guards.outputs import folder_target

    for option, name in (("RUN_OR_ADAPTER", source), ("--base", base), ("--towers", towers)):
        if name is not None:
            need_model(name, option)
    kind = AVERE if layout is MergedLayout.AVERE else MODEL
    folder_target(out, kind, reads=[source, base, towers], option="OUT")

    from avem.train.checkpoints.merge import MergeOptions, merge_model

    options = MergeOptions(
        base=base, layout=layout.value, towers=towers, dtype=dtype.value if dtype else None, licence=licence
    )
    show(f"The merged model is in {merge_model(source, out, options)}.")
