"""Times a DPO step of TRL's trainer, reference scores precomputed, against avem's on the same text-only rows.

python -m avem.tools.project.benchmarks.trl_step        (needs `pip install avem[bench]`)

A row is a long text, a question and two answers, as long in tokens as AVERE's media, question and answers; the
questions on one text share it, as those on one clip do. Both sides train the same LoRA weights by the same objective
(Eq. 3) from the same numbers, and their losses are compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer
from datasets import Dataset
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from avem.tools.demo.models import make_tokenizer
from avem.tools.project.benchmarks.measure import show
from avem.tools.project.benchmarks.plain_step import with_plain_adapters
from avem.tools.project.benchmarks.step import timed
from avem.train import AudiovisualConfig, AudiovisualLM, ScoredSequence
from avem.train.losses import naive_dpo

if TYPE_CHECKING:
    from avem.train import AudiovisualLM

WORDS = 200
BETA = 0.1

Row = dict[str, str]
"""`prompt`, `chosen` and `rejected` text."""


def make_rows(texts: int, questions: int, text_words: int, question_words: int, answer_words: int) -> list[Row]:
    """Questions of random words, some on each text."""
    generator = torch.Generator().manual_seed(2)

    def words(count: int) -> str:
        return " ".join(f"w{n}" for n in torch.randint(WORDS, (count,), generator=generator).tolist())

    return [
        {
            "prompt": f"{text} {words(question_words)}",
            "chosen": f" {words(answer_words)}",
            "rejected": f" {words(answer_words)}",
        }
        for text in [words(text_words) for _ in range(texts)]
        for _ in range(questions)
    ]


def make_model(width: int, layers: int) -> AudiovisualLM:
    """A Llama of random weights with fresh adapters."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer([f"w{n}" for n in range(WORDS)])
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 43 // 16,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=4096,
        initializer_range=0.05,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    config = AudiovisualConfig(video_hidden_size=0, audio_hidden_size=0, video_projector="none", audio_projector="none")
    model = AudiovisualLM.create(LlamaForCausalLM(shape), tokenizer, config)
    model.add_lora()
    return model.train()


def move_policy(model: AudiovisualLM) -> None:
    """Change the trained adapters as training would, the same on both sides; the reference stays where it was."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_B.default" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)


class Step:
    """What both sides do once they have a loss."""

    def __init__(self, model: AudiovisualLM, batches: Callable[[], list[Callable[[], Tensor]]]) -> None:
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(self._trained, lr=1e-12, fused=True)
        self._batches = batches
        self.loss = 0.0

    def __call__(self) -> None:
        """One optimiser step; the losses of the batches are averaged."""
        batches = self._batches()
        self.loss = 0.0
        for batch in batches:
            loss = batch() / len(batches)
            torch.autograd.backward(loss)
            self.loss += loss.item()
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


def avem_step(model: AudiovisualLM, rows: list[Row]) -> Step:
    """All rows in one packed row of the model."""
    sequences = []
    for row in rows:
        prompt = model.tokenizer(row["prompt"], add_special_tokens=False).input_ids
        for answer in ("chosen", "rejected"):
            ids = model.tokenizer(row[answer] + model.tokenizer.eos_token, add_special_tokens=False).input_ids
            sequences.append(ScoredSequence(torch.tensor(prompt + ids), None, None, len(prompt)))
    with torch.no_grad(), model.adapter_disabled():
        reference = model.response_logprobs(sequences)
    move_policy(model)

    def loss() -> Tensor:
        policy = model.response_logprobs(sequences)
        return naive_dpo(policy[::2], policy[1::2], reference[::2], reference[1::2], BETA).mean()

    return Step(model, lambda: [loss])


def trl_step(model: AudiovisualLM, rows: list[Row], rows_per_batch: int, folder: str) -> Step:
    """The same weights in TRL's trainer, which scores the reference when it is made."""
    from trl import DPOConfig, DPOTrainer

    settings = DPOConfig(
        output_dir=folder,
        beta=BETA,
        precompute_ref_log_probs=True,
        max_length=None,
        report_to="none",
        use_cpu=True,
        per_device_train_batch_size=rows_per_batch,
        gradient_checkpointing=False,
        bf16=False,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    model = with_plain_adapters(model)
    model.language_model.set_attn_implementation("sdpa")
    trainer = DPOTrainer(
        model.peft_model, args=settings, train_dataset=Dataset.from_list(rows), processing_class=model.tokenizer
    )
    move_policy(trainer.model)
    batches = list(trainer.get_train_dataloader())
    return Step(trainer.model, lambda: [partial(trainer.compute_loss, trainer.model, batch) for batch in batches])


def main(
    width: Annotated[int, typer.Option(help="Width of the language model, a multiple of 64.")] = 512,
    layers: Annotated[int, typer.Option(help="Its layers.")] = 1,
    texts: Annotated[int, typer.Option(help="Long texts in the step.")] = 2,
    questions: Annotated[int, typer.Option(help="Questions on a text.")] = 3,
    text_words: Annotated[int, typer.Option(help="Tokens of a text.")] = 2144,
    question_words: Annotated[int, typer.Option(help="Tokens of a question.")] = 90,
    answer_words: Annotated[int, typer.Option(help="Tokens of an answer.")] = 55,
    rows_per_batch: Annotated[int, typer.Option(help="Rows that TRL takes at once.")] = 2,
    repeats: Annotated[int, typer.Option(help="Timed rounds.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
) -> None:
    """Do the step on both sides, and print times, ratio and losses."""
    torch.set_num_threads(threads)
    rows = make_rows(texts, questions, text_words, question_words, answer_words)
    with tempfile.TemporaryDirectory() as folder:
        steps = {
            "avem": avem_step(make_model(width, layers), rows),
            "TRL": trl_step(make_model(width, layers), rows, rows_per_batch, str(Path(folder) / "trl")),
        }
        steps["avem"]()
        seconds, busy = timed(dict(steps), repeats)
    show(
        f"One DPO step on {len(rows)} text-only rows, {questions} on a text of {text_words} tokens ({width} wide, "
        f"{layers} layers, LoRA, float32; in brackets, of processor time)",
        ("side", "seconds", "TRL / side", "loss"),
        [
            (
                name,
                f"{seconds[name]:.2f} s ({busy[name]:.2f} s)",
                f"{seconds['TRL'] / seconds[name]:.1f}x ({busy['TRL'] / busy[name]:.1f}x)",
                f"{step.loss:.6f}",
            )
            for name, step in steps.items()
        ],
    )


if __name__ == "__main__":
    typer.run(main)
