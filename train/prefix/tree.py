"""The prefix tree of a list of sequences, laid out in one packed row (plain Python, no tensors).

Every distinct prefix has one position in the row. A node is a run of atoms without a branch; it sees its ancestors and,
causally, itself. Children follow their parents, so a position never sees a later one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias


@dataclass(slots=True)
class Node:
    """A run of atoms that the same sequences share."""

    parent: int
    """Number of the parent node; -1 for the root."""
    atoms: list[int]
    first_atom: int
    """Index of the run's first atom in each sequence that holds it."""
    children: list[int] = field(default_factory=list)
    size: int = 0
    """Positions that the atoms fill."""
    subtree: int = 0
    """Positions of the node and all below it."""
    depth: int = 0
    """Position of the run's first token in each sequence that holds it."""
    start: int = 0
    """Position of the run's first token in the packed row."""


@dataclass(frozen=True, slots=True)
class Block:
    """One attention call: the positions of `queries` see those of `prefix` and, along the tree, each other."""

    prefix: tuple[int, ...]
    """A path of nodes from the root, all visible to every query."""
    queries: tuple[int, ...]
    """Nodes whose attention this call computes, parents before children."""
    chain: bool
    """Whether the queries are themselves one path, so that plain causal attention serves."""


@dataclass(frozen=True, slots=True)
class PrefixTree:
    """Nodes by number (the root is 0 and may be empty), and their order in the packed row."""

    nodes: list[Node]
    order: list[int]
    leaves: list[int]
    """For each sequence the node in which it ends."""

    @property
    def positions(self) -> int:
        """Length of the packed row."""
        return self.nodes[0].subtree

    def path(self, node: int) -> list[int]:
        """Nodes from the root to this one, both included."""
        path: list[int] = []
        while node >= 0:
            path.append(node)
            node = self.nodes[node].parent
        return path[::-1]


def build_tree(sequences: Sequence[Sequence[int]], size_of: Callable[[int], int]) -> PrefixTree:
    """Merge sequences of atoms by their common prefixes.

    Args:
        sequences: Atoms of each sequence; equal numbers are the same atom.
        size_of: Positions that an atom fills.
    """
    nodes: list[Node] = []
    leaves = [0] * len(sequences)
    waiting: list[tuple[list[int], int, int]] = [(list(range(len(sequences))), 0, -1)]
    while waiting:
        members, offset, parent = waiting.pop()
        end = _common_end([sequences[member] for member in members], offset)
        number = len(nodes)
        nodes.append(Node(parent, list(sequences[members[0]][offset:end]), offset))
        if parent >= 0:
            nodes[parent].children.append(number)
        branches: dict[int, list[int]] = {}
        for member in members:
            leaves[member] = number
            if len(sequences[member]) > end:
                branches.setdefault(sequences[member][end], []).append(member)
        waiting += [(branch, end, number) for branch in reversed(branches.values())]
    return PrefixTree(nodes, _lay_out(nodes, size_of), leaves)


def _common_end(paths: list[Sequence[int]], offset: int) -> int:
    """Index up to which all paths agree, given that they agree before `offset`."""
    shortest = min(len(path) for path in paths)
    first = paths[0]
    for index in range(offset, shortest):
        if any(path[index] != first[index] for path in paths):
            return index
    return shortest


def _lay_out(nodes: list[Node], size_of: Callable[[int], int]) -> list[int]:
    """Fill in sizes, depths and starts; return the packed order."""
    for node in nodes:  # parents have smaller numbers than their children
        node.size = node.subtree = sum(size_of(atom) for atom in node.atoms)
        if node.parent >= 0:
            parent = nodes[node.parent]
            node.depth = parent.depth + parent.size
    for node in reversed(nodes):
        if node.parent >= 0:
            nodes[node.parent].subtree += node.subtree
    order, waiting, start = [], [0], 0
    while waiting:
        number = waiting.pop()
        order.append(number)
        nodes[number].start = start
        start += nodes[number].size
        waiting += reversed(nodes[number].children)
    return order


def plan_blocks(tree: PrefixTree, group_limit: int) -> list[Block]:
    """Cut the tree's attention into few calls: long paths causally, and the small branches below a path together.

    Args:
        tree: The tree.
        group_limit: Most positions that one call with a mask may compute; a mask is `[queries, prefix + queries]`.

    Returns:
        Blocks that together compute every non-empty node once.
    """
    nodes, blocks = tree.nodes, []
    waiting: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    while waiting:
        top, prefix = waiting.pop()
        chain = [top]
        while True:
            path = (*prefix, *chain)
            children = nodes[chain[-1]].children
            small = [child for child in children if nodes[child].subtree <= group_limit]
            large = [child for child in children if nodes[child].subtree > group_limit]
            blocks += [_block(tree, path, group) for group in _pool(nodes, small, group_limit)]
            waiting += [(child, path) for child in large[1:]]
            if not large:
                break
            chain.append(large[0])
        blocks.append(Block(_filled(nodes, prefix), _filled(nodes, tuple(chain)), chain=True))
    return [block for block in blocks if block.queries]


def _pool(nodes: list[Node], children: list[int], limit: int) -> list[list[int]]:
    """Cut a list of small subtrees into groups of at most `limit` positions."""
    groups: list[list[int]] = []
    room = 0
    for child in children:
        if nodes[child].subtree > room or not groups:
            groups.append([])
            room = limit
        groups[-1].append(child)
        room -= nodes[child].subtree
    return groups


def _block(tree: PrefixTree, prefix: tuple[int, ...], tops: list[int]) -> Block:
    queries, waiting = [], tops[::-1]
    chain = len(tops) == 1
    while waiting:
        number = waiting.pop()
        queries.append(number)
        children = tree.nodes[number].children
        chain = chain and len(children) <= 1
        waiting += reversed(children)
    return Block(_filled(tree.nodes, prefix), _filled(tree.nodes, tuple(queries)), chain)


def _filled(nodes: list[Node], numbers: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(number for number in numbers if nodes[number].size)


@dataclass(frozen=True, slots=True)
class NodeSize:
    """A node of a prefix tree that is counted but not built."""

    size: int
    """Positions of the node's own run."""
    depth: int
    """Positions before it in each sequence that holds it."""


Nodes: TypeAlias = dict[Hashable, NodeSize]
"""Nodes by a key that equal prefixes share."""


def tree_nodes(sequences: Iterable[Iterable[tuple[Hashable, int]]]) -> Nodes:
    """The nodes that sequences have in their prefix tree.

    Args:
        sequences: Each as the key and the size of its nodes, from the root on.
    """
    nodes: Nodes = {}
    for sequence in sequences:
        depth = 0
        for key, size in sequence:
            nodes[key] = NodeSize(size, depth)
            depth += size
    return nodes


class TreeSize:
    """Counts a prefix tree that grows node by node: what `build_tree` would lay out, without laying it out.

    Args:
        nodes: Nodes that it starts with.
    """

    def __init__(self, nodes: Mapping[Hashable, NodeSize] = MappingProxyType({})) -> None:
        self._nodes: Nodes = {}
        self.tokens = 0
        """Positions of the packed row."""
        self.add(nodes)

    @property
    def pairs(self) -> int:
        """Pairs of a position and one that it sees: its node's prefix and, causally, its own node."""
        return sum(node.size * node.depth + node.size * (node.size + 1) // 2 for node in self._nodes.values())

    def tokens_with(self, nodes: Mapping[Hashable, NodeSize]) -> int:
        """Positions once further nodes are taken in."""
        return self.tokens + sum(node.size for key, node in nodes.items() if key not in self._nodes)

    def add(self, nodes: Mapping[Hashable, NodeSize]) -> None:
        """Take further nodes in."""
        self.tokens = self.tokens_with(nodes)
        self._nodes |= nodes
