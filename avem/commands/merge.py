"""`avem models merge`: merge trained weights into their base model."""

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
    source: Annotated[
        str, typer.Argument(metavar="RUN_OR_ADAPTER", help="Run directory, its final/ folder, or a peft adapter.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write; replaces a model that avem wrote there before.")],
    base: Annotated[
        str | None,
        typer.Option(help="Base model of a peft adapter.", show_default="the one named in the adapter"),
    ] = None,
    layout: Annotated[
        MergedLayout, typer.Option(help="Layout of the files: the base family's own, or AVERE's, which its tools read.")
    ] = MergedLayout.AVEM,
    towers: Annotated[
        str | None,
        typer.Option(
            help="For --layout avere: AVERE checkpoint to take the encoders from.", show_default="the base model"
        ),
    ] = None,
    dtype: Annotated[
        MergedFormat | None,
        typer.Option(help="Number format of the weights.", show_default="the base model's"),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(help="Licence for the model card, such as cc-by-nc-4.0.", show_default="the base model's"),
    ] = None,
) -> None:
    """Merge trained weights into their base model."""
    from avem.guards.inputs import need_model
    from avem.guards.output_kinds import AVERE
    from avem.guards.outputs import folder_target

    for option, name in (("RUN_OR_ADAPTER", source), ("--base", base), ("--towers", towers)):
        if name is not None:
            need_model(name, option)
    kind = AVERE if layout is MergedLayout.AVERE else None  # which kind it is follows from the base
    folder_target(out, kind, reads=[source, base, towers], option="OUT")

    from avem.train.checkpoints.merge import MergeOptions, merge_model

    options = MergeOptions(
        base=base, layout=layout.value, towers=towers, dtype=dtype.value if dtype else None, licence=licence
    )
    show(f"The merged model is in {merge_model(source, out, options)}.")
