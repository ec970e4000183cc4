"""Position ids: of the packed prefix tree, of one sequence, and of what is generated after it.

A node's ids follow from its ancestors alone, so equal prefixes have equal ids in every sequence and the tree stays
exact. How a prefix decides what comes next is a small state that a family's `Positions` hands along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import torch

from avem.train.model.media import Piece, Side
from avem.train.prefix.tree import PrefixTree

State: TypeAlias = Any
"""What the ids after a prefix depend on; the family's own, never changed in place."""


class Positions(Protocol):
    """A family's position ids. Ids are `[axes, n]`, one row an axis."""

    @property
    def axes(self) -> int:
        """Rows of ids: 1, or 3 for time, height and width."""

    def begin(self) -> State:
        """The state before the first token."""

    def text(self, state: State, ids: Sequence[int]) -> tuple[torch.Tensor, State]:
        """Position ids `[axes, n]` of n text tokens, and the state after them."""

    def media(self, state: State, side: Side, piece: Piece) -> tuple[torch.Tensor, State]:
        """Position ids `[axes, piece.size]` of a piece of media, and the state after it."""


class OffsetPositions:
    """One axis: a token's id is the number of tokens before it.

    Example:
        >>> ids, state = OffsetPositions().text(OffsetPositions().begin(), [5, 6])
        >>> OffsetPositions().media(state, "audio", Piece(0, 3))[0].tolist()
        [[2, 3, 4]]
    """

    axes = 1

    def begin(self) -> int:
        """Nothing is before the first token."""
        return 0

    def text(self, state: int, ids: Sequence[int]) -> tuple[torch.Tensor, int]:
        """The next ids in order."""
        return torch.arange(state, state + len(ids))[None], state + len(ids)

    def media(self, state: int, side: Side, piece: Piece) -> tuple[torch.Tensor, int]:
        """The next ids in order."""
        return torch.arange(state, state + piece.size)[None], state + piece.size


PieceOf: TypeAlias = Callable[[int], tuple[Side, Piece]]
"""Side and piece of a media atom (a negative number)."""


def walk(
    positions: Positions, state: State, atoms: Sequence[int], piece_of: PieceOf
) -> tuple[list[torch.Tensor], State]:
    """Position ids of a run of atoms.

    Args:
        positions: The family's.
        state: After what comes before the run.
        atoms: Token ids, and negative numbers for media.
        piece_of: Says what a negative number is.

    Returns:
        Parts `[axes, n]` in order, and the state after the run.
    """
    parts: list[torch.Tensor] = []
    start = 0
    while start < len(atoms):
        if atoms[start] < 0:
            ids, state = positions.media(state, *piece_of(atoms[start]))
            end = start + 1
        else:
            end = next((i for i in range(start, len(atoms)) if atoms[i] < 0), len(atoms))
            ids, state = positions.text(state, atoms[start:end])
        parts.append(ids)
        start = end
    return parts, state


def row_positions(positions: Positions, atoms: Sequence[int], piece_of: PieceOf) -> tuple[torch.Tensor, State]:
    """Position ids `[axes, S]` of one sequence, and the state after it."""
    parts, state = walk(positions, positions.begin(), atoms, piece_of)
    return torch.cat(parts, 1), state


def tree_positions(positions: Positions, tree: PrefixTree, piece_of: PieceOf) -> torch.Tensor:
    """Position ids `[axes, S]` of a packed tree, each as in the sequences that hold it."""
    after: list[State] = []
    of_node: list[list[torch.Tensor]] = []
    for node in tree.nodes:  # parents have smaller numbers than their children
        before = positions.begin() if node.parent < 0 else after[node.parent]
        parts, state = walk(positions, before, node.atoms, piece_of)
        of_node.append(parts)
        after.append(state)
    return torch.cat([part for number in tree.order for part in of_node[number]], 1)


def model_positions(ids: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Ids `[axes, B, S]` as transformers takes them: `[B, S]` for one axis, else `[axes, B, S]`."""
    return (ids[0] if ids.shape[0] == 1 else ids).to(device)
