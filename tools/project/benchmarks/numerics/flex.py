"""What flex attention computes of a packed row, how often it is compiled, and how long a forward pass takes.

python -m avem.tools.project.benchmarks.numerics.flex

The kernel is PyTorch's for processors, whose forward pass alone it compiles. That of GPUs has the same plan and the
same guards, and was not run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from avem.tools.project.benchmarks.measure import alternate, show
from avem.train.prefix import flex
from avem.train.prefix.attention import TreeAttention, sees, subtree_ends
from avem.train.prefix.blocks import BLOCK, tree_block_mask
from avem.train.prefix.sdpa import Weighting
from avem.train.prefix.tree import PrefixTree, build_tree

CPU = torch.device("cpu")
HEADS, KEY_HEADS, HEAD_SIZE = 4, 2, 64
LENGTHS = (450, 300, 90, 1500, 30, 700, 512, 1000, 120, 260)
"""Tokens before the answers in rows one after another: the first has as many blocks as there are heads, one has one."""


def make_tree(media: int, questions: int = 3, question: int = 50, answer: int = 55) -> PrefixTree:
    """Questions on one clip with four answers each."""
    paths = []
    for asked in range(questions):
        prompt = [0] * media + [10 + asked] * question
        paths += [[*prompt, *[100 + number] * answer] for number in range(4)]
    return build_tree(paths, lambda _: 1)


def parts(positions: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random queries, keys and values."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, HEADS, positions, HEAD_SIZE, generator=generator)
    key, value = torch.randn(2, 1, KEY_HEADS, positions, HEAD_SIZE, generator=generator).unbind()
    return query, key, value


def planned(tree: PrefixTree) -> Any:
    """PyTorch's own plan, from the mask at every pair."""
    ends, size = subtree_ends(tree), tree.positions
    return create_block_mask(lambda _, __, q, k: sees(q, k, ends), None, None, size, size, device="cpu")


def compiled(run: Callable[[Any, PrefixTree], object], function: Any) -> int:
    """How often a function is compiled for rows of all lengths."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    kernel = torch.compile(function, dynamic=True, backend=counter)
    for length in LENGTHS:
        run(kernel, make_tree(length, questions=1, question=10, answer=10))
    return int(counter.frame_count)


def plainly(kernel: Any, tree: PrefixTree) -> None:
    """A call of flex attention with nothing done about lengths."""
    query, key, value = parts(tree.positions)
    kernel(query, key, value, block_mask=planned(tree), enable_gqa=True)


def as_avem(kernel: Any, tree: PrefixTree) -> None:
    """Avem's call."""
    flex._compiled = lambda: kernel  # type: ignore[assignment]
    flex.FlexTreeAttention.of(tree, CPU).attend(*parts(tree.positions), Weighting(None, 0.0))


@torch.no_grad()
def main(
    media: Annotated[list[int] | None, typer.Option(help="Media tokens; repeat. [default: 2144 8192]")] = None,
    repeats: Annotated[int, typer.Option(help="Timed rounds.")] = 3,
) -> None:
    """Print both tables."""
    own = flex._compiled
    flex._kernel = lambda _: flex.compiled_flex  # type: ignore[assignment]
    counts = [
        ("`torch.compile(flex_attention, dynamic=True)`", compiled(plainly, flex_attention)),
        ("avem", compiled(as_avem, flex._flex)),
    ]
    show(f"Kernels compiled for {len(LENGTHS)} rows of different lengths", ("", "kernels"), counts)
    flex._compiled = own
    torch._dynamo.reset()
    rows = []
    for size in media or [2144, 8192]:
        tree = make_tree(size)
        positions, mask = tree.positions, tree_block_mask(tree, CPU)
        counts_of: Any = (mask.kv_num_blocks, mask.full_kv_num_blocks)
        blocks = sum(int(count.sum()) for count in counts_of)
        side = -(-positions // BLOCK)
        inputs, weighting = parts(positions), Weighting(None, 0.0)
        compiled_way, grouped = flex.FlexTreeAttention.of(tree, CPU), TreeAttention.of(tree, CPU)
        sides: dict[str, Callable[[], Any]] = {
            "flex": lambda: compiled_way.attend(*inputs, weighting),  # noqa: B023
            "grouped": lambda: grouped.attend(*inputs, weighting),  # noqa: B023
            "plan": lambda: tree_block_mask(tree, CPU),  # noqa: B023
            "torch": lambda: planned(tree),  # noqa: B023
        }
        difference = float((sides["flex"]() - sides["grouped"]()).abs().max())
        took = alternate(sides, repeats)
        rows.append(
            (
                positions,
                f"{blocks} of {side**2} ({side * (side + 1) // 2} causal)",
                f"{1000 * took['plan']:.1f} ms",
                f"{1000 * took['torch']:.1f} ms",
                f"{1000 * took['flex']:.0f} ms",
                f"{1000 * took['grouped']:.0f} ms",
                f"{difference:.1e}",
            )
        )
    header = (
        "positions",
        "blocks computed",
        "plan",
        "`create_block_mask`",
        "flex",
        "grouped SDPA",
        "largest difference",
    )
    show(f"Three questions with four answers each on one clip; {HEADS} heads of {HEAD_SIZE}, float32", header, rows)


if __name__ == "__main__":
    typer.run(main)
