"""`avem models`: the models that the commands use: their files, where they are and how large they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avem.commands.merge import merge
from avem.extract.defaults import DEFAULT_AUDIO_ENCODER, DEFAULT_VIDEO_ENCODER
from avem.starts import BASE
from avem.text.sizes import size_text
from avem.text.terminal import show

if TYPE_CHECKING:
    from avem.locate import ModelLocation

import_app = typer.Typer(help="Make a model's folder from the files that its authors' tools use.", no_args_is_help=True)
export_app = typer.Typer(help="Write a model in the layout of its authors' tools.", no_args_is_help=True)
models_app = typer.Typer(help="Show the models that avem uses; import, merge and export models.")
models_app.command()(merge)
models_app.add_typer(import_app, name="import")
models_app.add_typer(export_app, name="export")

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
        _Released(
            "LanguageBind/Video-LLaVA-7B", "what AVERE's base is made from (`avem recipe avere-base`)", "about 15 GB"
        ),
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
    size = size_text(found.size_bytes) if found.size_bytes else size
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


@import_app.command("emotion-llama")
def import_emotion_llama(
    out: Annotated[Path, typer.Argument(help="Folder to write; replaces a model that avem wrote there before.")],
    llama: Annotated[Path, typer.Option(help="Folder of Llama-2-7b-chat in Hugging Face's layout.")],
    checkpoint: Annotated[Path, typer.Option(help="The authors' checkpoint, such as Emoation_LLaMA.pth.")],
    lora_alpha: Annotated[
        float, typer.Option(help="Alpha of the adapters, which no file holds; the authors' settings say 16.")
    ],
    eva: Annotated[Path, typer.Option(help="EVA-CLIP-g's file, eva_vit_g.pth.")],
    hubert: Annotated[Path, typer.Option(help="Folder of chinese-hubert-large.")],
    eva_config: Annotated[
        Path | None,
        typer.Option(
            help="JSON file with image_size, depth and num_heads of another EVA.", show_default="the released sizes"
        ),
    ] = None,
    lora_rank: Annotated[
        int | None,
        typer.Option(help="Refuse a checkpoint whose adapters have another rank.", show_default="any rank"),
    ] = None,
) -> None:
    """Import Emotion-LLaMA.

    All files are copied into one folder.
    """
    from avem.guards.inputs import need_file, need_folder
    from avem.guards.output_kinds import MODEL
    from avem.guards.outputs import folder_target

    need_folder(llama, "--llama")
    need_folder(hubert, "--hubert")
    for option, path in (("--checkpoint", checkpoint), ("--eva", eva), ("--eva-config", eva_config)):
        need_file(path, option)
    folder_target(out, MODEL, reads=[llama, checkpoint, eva, hubert, eva_config], option="OUT")

    from avem.extract.encoders.eva import EvaSettings, load_eva
    from avem.extract.encoders.hubert import load_hubert
    from avem.train.families.emotion_llama.importing import EncoderFacts, ReleasedFiles, import_released
    from avem.train.families.emotion_llama.projections import FRAME, SOUND

    tower, sound = load_eva(eva, EvaSettings.read(eva_config)), load_hubert(hubert)
    encoders = {
        FRAME: EncoderFacts(tower.weights_sha256, tower.shape.width),
        SOUND: EncoderFacts(sound.weights_sha256, sound.width),
    }
    files = ReleasedFiles(llama, checkpoint, eva, hubert, eva_config, encoders)
    config = import_released(files, out, lora_alpha=lora_alpha, lora_rank=lora_rank)
    show(f"The model is in {out}: adapters of rank {config.lora_rank} and alpha {config.lora_alpha:g}.")


@export_app.command("emotion-llama")
def export_emotion_llama(
    model: Annotated[str, typer.Argument(help="Folder of an Emotion-LLaMA model, or a run.")],
    out: Annotated[Path, typer.Argument(help="The new .pth file.")],
) -> None:
    """Export Emotion-LLaMA.

    The file holds what the authors' does: adapters and projections. What their loader will miss in it is said.
    """
    from avem.guards.inputs import need_model

    need_model(model, "MODEL")

    from avem.train.families.emotion_llama.export import export_released

    report = export_released(model, out)
    show(
        f"The checkpoint is in {out}; set lora_r: {report.rank} and lora_alpha: {report.alpha:g} in the authors' tools."
    )
    show(f"Not in the file: {', '.join(report.missing)}.")
    if report.surplus:
        shown = ", ".join(report.surplus[:3]) + (
            f" and {len(report.surplus) - 3} more" if len(report.surplus) > 3 else ""
        )
        show(f"In the file, and read by nothing: {shown}.")
