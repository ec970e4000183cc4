"""`avem models import` and `avem models export`: released files of other tools to a folder of avem's, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avem.text.terminal import show

import_app = typer.Typer(help="Make a model's folder from the files that its authors' tools use.", no_args_is_help=True)
export_app = typer.Typer(help="Write a model in the layout of its authors' tools.", no_args_is_help=True)


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
    """Make an Emotion-LLaMA model of the authors' files; all of them are copied."""
    from avem.guards.output_kinds import MODEL
    from avem.guards.outputs import folder_target

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
    """Write an Emotion-LLaMA model as the authors' checkpoint; it says what the file lacks and what it has too much."""
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
