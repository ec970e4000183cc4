"""`avem models`: the models that the commands use: their files, where they are and how large they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from avem.commands.merge import merge
from avem.extract.defaults import DEFAULT_AUDIO_ENCODER, DEFAULT_VIDEO_ENCODER
from avem.starts import BASE
from avem.text.terminal import show

if TYPE_CHECKING:
    from avem.locate import ModelLocation

models_app = typer.Typer(help="Show the models that avem uses; merge trained weights.")
models_app.command()(merge)

Hub = Annotated[
    bool, typer.Option("--hub/--no-hub", help="Look on the Hugging Face hub for models that are not on this machine.")
]


@dataclass(frozen=True, slots=True)
class _Released:
    """A released model that a command uses by default."""

    name: str
    role: str
    size: str
    """Estimated from the number of weights; shown if the hub can't be reached."""


def _released() -> tuple[_Released, ...]:
    return (
        _Released(DEFAULT_VIDEO_ENCODER, "video encoder of `avem extract` (--video-encoder)", "about 2.1 GB"),
        _Released(DEFAULT_AUDIO_ENCODER, "audio encoder of `avem extract` (--audio-encoder)", "about 3.1 GB"),
        _Released(BASE, "model that `avem train` starts from if there is no ./base (--model)", "about 22 GB"),
        _Released("chaubeyG/AVERE-7B", "the paper's model, already tuned with AVEm-DPO (--model)", "about 16 GB"),
    )


@models_app.callback(invoke_without_command=True)
def models(context: typer.Context, hub: Hub = True) -> None:
    """List the released models; `avem models list NAME` looks up others."""
    if context.invoked_subcommand is None:
        list_models(None, hub)


@models_app.command("list")
def list_models(
    names: Annotated[
        list[str] | None, typer.Argument(help="Folders or hub ids.", show_default="the released models")
    ] = None,
    hub: Hub = True,
) -> None:
    """Show each model's files, path and size."""
    from avem.locate import look_up

    released = {model.name: model for model in _released()}
    for name in names or released:
        known = released.get(name)
        show(name + (f": {known.role}" if known else ""))
        for line in _lines(look_up(name, ask_hub=hub), known.size if known else "of unknown size"):
            show(f"  {line}")


def _lines(found: ModelLocation, size: str) -> list[str]:
    """Lines to show about one model."""
    size = f"{found.size_bytes / 1e9:.2f} GB" if found.size_bytes else size
    needs = ", ".join(_shortened(found.files)) or "config.json and its weights (safetensors or pytorch_model.bin)"
    where = {
        "path": f"found at {found.path}",
        "cache": f"found in the Hugging Face cache: {found.path}",
        "hub": f"not on this machine; downloaded from the hub when first used, or by `hf download {found.name}`",
        "nowhere": f"not found: looked for a folder of that name, in the Hugging Face cache and on the hub; "
        f"run `hf download {found.name}` on a connected machine",
    }[found.source]
    problem = [f"but {found.problem}" if found.path else found.problem] if found.problem else []
    return [f"needs {needs}: {size}", where, *problem]


def _shortened(files: tuple[str, ...]) -> list[str]:
    """File names, with the shards of large weights as one."""
    shards = [name for name in files if "-of-" in name]
    return [name for name in files if name not in shards] + ([f"{shards[0]} to {shards[-1]}"] if shards else [])
