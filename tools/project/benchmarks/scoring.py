"""Times the scoring of answer options with their common prefix computed once against each option by itself.

python -m avem.tools.project.benchmarks.scoring
"""

from __future__ import annotations

from typing import Annotated

import torch
import typer
from transformers import LlamaConfig, LlamaForCausalLM

from avem.tools.demo.models import make_tokenizer
from avem.tools.project.benchmarks.measure import alternate, show
from avem.train import AudiovisualConfig, AudiovisualLM, ScoredSequence
from avem.train.model.prompts import SYSTEM

QUESTION = (
    "Which of these sounds in the clip tells you most about how the person in it appears to feel? Answer briefly."
)
OPTIONS = (
    "a trembling voice that gets quieter",
    "loud laughter from the left side",
    "glass that breaks on the floor",
    "rain on a roof, and then silence",
)
AUDIO_STEPS = 1500


def make_model(width: int, layers: int, frames: int, frame_tokens: int) -> AudiovisualLM:
    """A Llama of random weights with AVERE's projectors: as many tokens a clip, narrower features.

    Args:
        width: Of the language model, in multiples of 64.
        layers: Of the language model.
        frames: Video frames of a clip.
        frame_tokens: Tokens of a frame.
    """
    torch.manual_seed(0)
    tokenizer = make_tokenizer([QUESTION, *OPTIONS, *map(str, range(100)), "( )", *SYSTEM.values()])
    shape = LlamaConfig(
        vocab_size=32000,
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=frames * frame_tokens + 1024,
        initializer_range=0.05,
    )
    config = AudiovisualConfig(
        video_hidden_size=256,
        audio_hidden_size=256,
        video_frames=frames,
        qformer_hidden_size=192,
        qformer_num_attention_heads=3,
        qformer_intermediate_size=768,
    )
    return AudiovisualLM.create(LlamaForCausalLM(shape), tokenizer, config).eval()


def make_sequences(model: AudiovisualLM, questions: int, frames: int, frame_tokens: int) -> list[ScoredSequence]:
    """Four options to each of some questions on one clip of random features."""
    generator = torch.Generator().manual_seed(1)
    video = torch.randn(frames, frame_tokens, 256, generator=generator)
    audio = torch.randn(AUDIO_STEPS, 256, generator=generator)
    return [
        model.sequence(f"({number}) {QUESTION}", option, video, audio)
        for number in range(questions)
        for option in OPTIONS
    ]


def main(
    width: Annotated[int, typer.Option(help="Width of the language model.")] = 512,
    layers: Annotated[int, typer.Option(help="Its layers.")] = 2,
    frames: Annotated[int, typer.Option(help="Video frames.")] = 8,
    frame_tokens: Annotated[int, typer.Option(help="Tokens of a frame.")] = 257,
    questions: Annotated[list[int] | None, typer.Option(help="Questions on one clip; repeat. [default: 1 3]")] = None,
    repeats: Annotated[int, typer.Option(help="Timed rounds.")] = 2,
) -> None:
    """Score four options a question, shared and plain, and print the ratio and the largest difference."""
    model = make_model(width, layers, frames, frame_tokens)
    rows = []
    for count in questions or [1, 3]:
        sequences = make_sequences(model, count, frames, frame_tokens)
        with torch.no_grad():
            difference = (model(sequences) - model(sequences, share_prefixes=False)).abs().max().item()
            seconds = alternate(
                {"shared": lambda: model(sequences), "plain": lambda: model(sequences, share_prefixes=False)},  # noqa: B023
                repeats,
                warmup=0,  # the comparison above was the warm-up
            )
        ratio = seconds["plain"] / seconds["shared"]
        rows.append(
            (
                count,
                len(sequences),
                f"{seconds['plain']:.2f} s",
                f"{seconds['shared']:.2f} s",
                f"{ratio:.1f}x",
                f"{difference:.1e}",
            )
        )
    show(
        f"Scoring 4 options a question on one clip ({frames} x {frame_tokens} + 88 media tokens; Llama of width "
        f"{width}, {layers} layers, float32)",
        ("questions", "sequences", "one by one", "prefixes shared", "ratio", "largest difference"),
        rows,
    )


if __name__ == "__main__":
    typer.run(main)
