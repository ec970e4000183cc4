"""Attention and towers by themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from avem.tools.project.benchmarks.gpu.kits import Place, Towers
from avem.tools.project.benchmarks.gpu.results import Table, Value
from avem.tools.project.benchmarks.gpu.sides import timed
from avem.train.prefix.attention import TreeAttention
from avem.train.prefix.flex import FlexTreeAttention
from avem.train.prefix.sdpa import Weighting
from avem.train.prefix.tree import PrefixTree

METHODS: dict[str, Any] = {"grouped SDPA": TreeAttention, "flex attention": FlexTreeAttention}


def tree_pairs(tree: PrefixTree) -> int:
    """Pairs of a position and one that it sees, itself included."""
    return sum(node.size * node.depth + node.size * (node.size + 1) // 2 for node in tree.nodes)


@dataclass(frozen=True, slots=True)
class AttentionCase:
    """One layer's attention over a packed tree.

    Args:
        name: Of the model whose heads these are.
        tree: The packed row.
        heads: Of queries.
        key_heads: Of keys and values.
        width: Of a head.
    """

    name: str
    tree: PrefixTree
    heads: int
    key_heads: int
    width: int

    def operations(self, backward: bool = True) -> float:
        """Of a forward pass, two products, and a backward pass, four."""
        return (12.0 if backward else 4.0) * self.heads * self.width * tree_pairs(self.tree)

    def measure(self, place: Place, peak: float, rounds: int) -> Table:
        """Time both methods on the same tensors and compare what they give, on a GPU gradients included.

        Flex attention has no backward pass on a CPU.

        Args:
            place: The device and the number format.
            peak: Operations a second of a large matrix product.
            rounds: Timed rounds, after one that compiles.
        """
        generator = torch.Generator().manual_seed(0)

        def draw(heads: int) -> torch.Tensor:
            drawn = torch.randn(1, heads, self.tree.positions, self.width, generator=generator)
            return drawn.to(place.device, place.dtype)

        backward = place.device.type == "cuda"
        inputs = draw(self.heads), draw(self.key_heads), draw(self.key_heads)
        found: dict[str, list[torch.Tensor]] = {}
        rows: list[dict[str, Value]] = []
        for name, method in METHODS.items():
            attention = method.of(self.tree, place.device)
            own = [part.clone().requires_grad_(backward) for part in inputs]

            def both(attention: Any = attention, own: Any = own, name: str = name) -> None:
                for part in own:
                    part.grad = None
                output = attention.attend(*own, Weighting(None, 0.0))
                if backward:
                    torch.autograd.backward(output.float().square().mean())
                found[name] = [output.detach(), *(part.grad for part in own if part.grad is not None)]

            both()
            seconds = min(timed(both, place.device) for _ in range(rounds))
            first = next(iter(found.values()))
            worst = max(_difference(one, other) for one, other in zip(first, found[name], strict=True))
            row: dict[str, Value] = {"model": self.name, "positions": self.tree.positions, "attention": name}
            row |= {"passes": "forward, backward" if backward else "forward", "ms a layer": 1000 * seconds}
            row |= {"share of peak": self.operations(backward) / seconds / peak, "largest relative difference": worst}
            rows.append(row)
        return Table("Attention over the packed tree of the mutual step", tuple(rows))


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference, in units of the first's largest value."""
    return float((one.float() - other.float()).abs().max() / one.float().abs().max())


def encode_clips(towers: Towers, side: str, peak: float, batch: int, rounds: int) -> Table:
    """Clips a second of a tower, from pixels or mels on the device to features there."""
    place = towers.place
    inputs = towers.pixels(batch) if side == "video" else towers.mels(batch)
    encoder = towers.video if side == "video" else towers.audio
    run: Callable[[], object] = lambda: encoder.encode(inputs)  # noqa: E731
    run()
    seconds = min(timed(run, place.device) for _ in range(rounds))
    row: dict[str, Value] = {
        "tower": "ViT (LanguageBind-Video)" if side == "video" else "Whisper's encoder",
        "clips at once": batch,
        "clips a second": batch / seconds,
        "share of peak": batch * towers.operations(side) / seconds / peak,
    }
    return Table("Towers", (row,))
