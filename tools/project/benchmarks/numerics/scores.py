"""How far a summed log-probability in bfloat16 is from float64, by what is computed in float32.

python -m avem.tools.project.benchmarks.numerics.scores --model SmolLM2-135M-Instruct.Q4_1.gguf --text docs/training.md

The answer is the text's own words. Weights are bfloat16 everywhere, so that only arithmetic differs. Processors without
instructions for bfloat16 take minutes for its products; here they are taken in float32 and rounded, which gives the
same numbers (`--native` has PyTorch's own).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, cast

import torch
import typer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from avem.prefix import TokenSequence, score
from avem.tools.project.benchmarks.measure import show
from avem.train.model.language_models import load_language_model

PROMPT = 100
"""Tokens before the answer."""
PRODUCTS = ("aten::mm", "aten::bmm", "aten::addmm")


class RoundedProducts(TorchDispatchMode):
    """Products of bfloat16 in float32, rounded to bfloat16."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation."""
        if func.overloadpacket._qualified_op_name in PRODUCTS and args[0].dtype == torch.bfloat16:
            wide = [each.float() if isinstance(each, Tensor) else each for each in args]
            return func(*wide, **(kwargs or {})).bfloat16()
        return func(*args, **(kwargs or {}))


@contextmanager
def rounded(native: bool) -> Iterator[None]:
    """The context in which products of bfloat16 are taken."""
    with nullcontext() if native else cast(Any, RoundedProducts)():
        yield


def logprobs(model: PreTrainedModel, ids: Tensor, *, wide_stream: bool, wide_logits: bool) -> Tensor:
    """Log-probabilities of the answer's tokens, float32 (float64 of a float64 model), `[n]`."""
    embeddings = model.get_input_embeddings()(ids)[None]
    with torch.autocast("cpu", torch.bfloat16) if wide_stream else nullcontext():
        given = embeddings.float() if wide_stream else embeddings
        hidden = model.get_decoder()(inputs_embeds=given, use_cache=False).last_hidden_state[0, PROMPT - 1 : -1]
    weight = model.get_output_embeddings().weight
    logits = hidden.float() @ weight.float().T if wide_logits else hidden.to(weight.dtype) @ weight.T
    wide = logits if logits.dtype == torch.float64 else logits.float()
    found: Tensor = wide.gather(1, ids[PROMPT:, None])[:, 0] - wide.logsumexp(-1)
    return found


@torch.no_grad()
def measure(model: PreTrainedModel, ids: Tensor, native: bool) -> list[tuple[str, ...]]:
    """Rows of the table for one answer."""
    exact = logprobs(copy.deepcopy(model).double(), ids, wide_stream=False, wide_logits=False)
    count, total = str(len(exact)), float(exact.sum())
    variants = {
        "nothing but the sum": (False, False),
        "logits": (False, True),
        "hidden states": (True, False),
        "both": (True, True),
    }
    rows: list[tuple[str, ...]] = []
    for name, (wide_stream, wide_logits) in variants.items():
        with rounded(native):
            found = logprobs(model, ids, wide_stream=wide_stream, wide_logits=wide_logits).double()
        error = found - exact
        each = float(error.square().mean().sqrt())
        rows.append((count, f"{total:.1f}", name, f"{float(error.sum()):+.4f}", f"{each:.4f}"))
    with rounded(native):
        own = score(model, [TokenSequence(ids.tolist(), PROMPT)]).double()
    rows.append((count, f"{total:.1f}", "`avem.prefix.score`", f"{float(own[0]) - total:+.4f}", ""))
    return rows


def main(
    model: Annotated[str, typer.Option(help="Folder, hub id or .gguf file of a causal language model.")],
    text: Annotated[Path, typer.Option(help="A text that is long enough.")],
    tokens: Annotated[list[int] | None, typer.Option(help="Length of an answer; repeat. [default: 64 512]")] = None,
    native: Annotated[bool, typer.Option(help="Take products as PyTorch does on this processor.")] = False,
) -> None:
    """Print the errors."""
    language_model, tokenizer = load_language_model(model, dtype=torch.bfloat16)
    ids = torch.tensor(tokenizer(text.read_text()).input_ids)
    rows = []
    for count in tokens or [64, 512]:
        rows += measure(language_model, ids[: PROMPT + count], native)
    show(
        "A score in bfloat16 against float64",
        ("answer tokens", "log-probability", "in float32", "error of the sum", "error of a token, r.m.s."),
        rows,
    )


if __name__ == "__main__":
    typer.run(main)
