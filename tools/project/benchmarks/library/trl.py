"""Times `avem.prefix.PrefixDPOTrainer` against TRL's own trainer on the same rows, losses and tokens compared.

python -m avem.tools.project.benchmarks.library.trl        (needs `pip install avem[trl]`)

Both trainers take TRL's whole way through a batch, from its data loader to the gradient: same data, same LoRA weights,
same settings, reference scores precomputed. They differ in the class alone. `trl_step` compares avem's own training
step instead.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from avem.prefix import PrefixDPOTrainer
from avem.tools.demo.models import make_tokenizer
from avem.tools.project.benchmarks.measure import show
from avem.tools.project.benchmarks.step import timed
from avem.tools.project.benchmarks.trl_step import WORDS, make_rows


def make_model(width: int, layers: int, tokenizer: PreTrainedTokenizerBase) -> PeftModel:
    """A Llama of random weights with adapters that differ from none, so that policy and reference do."""
    torch.manual_seed(0)
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
    return get_peft_model(LlamaForCausalLM(shape), LoraConfig(target_modules="all-linear", r=8))


class Side:
    """One trainer's loss and gradient over all rows.

    Args:
        trainer: TRL's or avem's.
    """

    def __init__(self, trainer: DPOTrainer) -> None:
        self._trainer = trainer
        generator = torch.Generator().manual_seed(3)
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
        self.loss = 0.0
        self.tokens = 0
        layer = trainer.model.get_base_model().model.layers[0]
        layer.register_forward_pre_hook(self._count, with_kwargs=True)
        trainer.model.train()

    def _count(self, layer: Any, inputs: tuple[Any, ...], more: dict[str, Any]) -> None:
        hidden = inputs[0] if inputs else more["hidden_states"]
        self.tokens += hidden.shape[0] * hidden.shape[1]

    def __call__(self) -> None:
        """Every batch of the data loader, forward and backward."""
        self.loss, self.tokens, trainer = 0.0, 0, self._trainer
        batches = list(trainer.get_train_dataloader())
        for batch in batches:
            loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch)) / len(batches)
            torch.autograd.backward(loss)
            self.loss += loss.item()
        trainer.model.zero_grad(set_to_none=True)


def make_side(
    kind: Callable[..., DPOTrainer],
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    folder: Path,
    batch: int,
) -> Side:
    """A trainer of a class, made as its users make it."""
    settings = DPOConfig(
        output_dir=str(folder),
        precompute_ref_log_probs=True,
        max_length=None,
        report_to="none",
        use_cpu=True,
        per_device_train_batch_size=batch,
        train_sampling_strategy="sequential",
        gradient_checkpointing=False,
        bf16=False,
        dataloader_pin_memory=False,
    )
    return Side(kind(model, args=settings, train_dataset=rows, processing_class=tokenizer))


def main(
    width: Annotated[int, typer.Option(help="Width of the language model, a multiple of 64.")] = 256,
    layers: Annotated[int, typer.Option(help="Its layers.")] = 2,
    texts: Annotated[int, typer.Option(help="Long texts.")] = 2,
    questions: Annotated[int, typer.Option(help="Questions on a text.")] = 3,
    text_words: Annotated[int, typer.Option(help="Tokens of a text.")] = 2144,
    question_words: Annotated[int, typer.Option(help="Tokens of a question.")] = 90,
    answer_words: Annotated[int, typer.Option(help="Tokens of an answer.")] = 55,
    rows_per_batch: Annotated[int | None, typer.Option(help="Rows of a batch. [default: those of a text]")] = None,
    repeats: Annotated[int, typer.Option(help="Timed rounds.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
) -> None:
    """Go through all rows on both sides, and print times, tokens, ratios and losses."""
    torch.set_num_threads(threads)
    rows = make_rows(texts, questions, text_words, question_words, answer_words)
    data = Dataset.from_list(rows)
    tokenizer = make_tokenizer([f"w{n}" for n in range(WORDS)])
    with tempfile.TemporaryDirectory() as folder:
        sides = {
            name: make_side(
                kind,
                make_model(width, layers, tokenizer),
                tokenizer,
                data,
                Path(folder) / name,
                rows_per_batch or questions,
            )
            for name, kind in (("PrefixDPOTrainer", PrefixDPOTrainer), ("TRL", DPOTrainer))
        }
        seconds, busy = timed(dict(sides), repeats)
    theirs = sides["TRL"]
    show(
        f"Loss and gradient of {len(rows)} text-only rows, {questions} on a text of {text_words} tokens ({width} wide, "
        f"{layers} layers, LoRA, float32; in brackets, of processor time)",
        ("trainer", "seconds", "TRL / trainer", "tokens", "TRL / trainer", "loss", "difference"),
        [
            (
                name,
                f"{seconds[name]:.2f} s ({busy[name]:.2f} s)",
                f"{seconds['TRL'] / seconds[name]:.1f}x ({busy['TRL'] / busy[name]:.1f}x)",
                f"{side.tokens:,}",
                f"{theirs.tokens / side.tokens:.1f}x",
                f"{side.loss:.6f}",
                f"{abs(side.loss - theirs.loss):.1e}",
            )
            for name, side in sides.items()
        ],
    )


if __name__ == "__main__":
    typer.run(main)
