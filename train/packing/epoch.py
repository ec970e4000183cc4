"""The epoch plan: which rows make a step, and which of them go through the model together.

A plan is a pure function of the rows, the settings, the seed, the epoch and the number of processes. It only says how
rows are packed: the loss of a row is the same number in every plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from avem.files import json_sha256
from avem.train.packing.matching import match, pair_weights
from avem.train.packing.specs import ScoreSpec, SequenceBuilder, plain_tokens
from avem.train.prefix.tree import Nodes, TreeSize, tree_nodes
from avem.train.settings.config import Pairing

if TYPE_CHECKING:
    from avem.train.run.memory import MemoryEstimate

MicroBatch = tuple[int, ...]
"""Indices of rows that go through the model together."""


class PlanRow(Protocol):
    """What a plan needs to know about a row of training data."""

    @property
    def row_id(self) -> str:
        """Name for messages."""

    @property
    def clip(self) -> int:
        """Store row of its clip."""

    @property
    def partner(self) -> int | None:
        """Store row of the clip that replaces its input, if any."""

    @property
    def specs(self) -> Sequence[ScoreSpec]:
        """What the policy scores for this row."""


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One optimiser step: for each process, its micro-batches."""

    ranks: tuple[tuple[MicroBatch, ...], ...]
    tokens: int
    """Positions that go through the model over all processes, shared prefixes once a micro-batch."""
    pairs: int
    """Pairs of a position and one that it sees, itself included: the products of attention."""

    @property
    def rows(self) -> list[int]:
        """Indices of all rows of the step, over all processes."""
        return [index for rank in self.ranks for batch in rank for index in batch]


@dataclass(frozen=True, slots=True)
class Packing:
    """How rows are packed."""

    pairing: Pairing
    rows_per_step: int
    """Rows of one step on one process; a step takes whole clips, so it may hold a few more or fewer."""
    tokens_per_batch: int
    """Most distinct tokens of a micro-batch, unless a single row has more."""


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What some steps amount to."""

    rows: int
    steps: int
    batches: int
    prefixes: int
    """Distinct media prefixes, counted once a micro-batch."""
    tokens: int
    """Positions that go through the model, shared prefixes once."""
    plain_tokens: int
    """Positions of the same scores with nothing shared."""
    memory: MemoryEstimate | None = None
    """What the run takes on each device; None where the model was there already."""

    @property
    def saving(self) -> float:
        """How many times less work than with nothing shared."""
        return self.plain_tokens / max(self.tokens, 1)


def plan_epoch(
    rows: Sequence[PlanRow],
    builder: SequenceBuilder,
    packing: Packing,
    *,
    seed: int,
    epoch: int = 0,
    world_size: int = 1,
) -> list[StepPlan]:
    """Plan one epoch.

    Args:
        rows: All rows of training data.
        builder: Knows how long sequences are.
        packing: How to pack.
        seed: Of the run.
        epoch: Counted from 0; each has its own order.
        world_size: Number of processes.

    Returns:
        Steps in order; every row is in exactly one.
    """
    units = [unit for group in group_rows(rows, packing.pairing, seed) for unit in _cut(group, packing.rows_per_step)]
    order = np.random.default_rng([seed, epoch]).permutation(len(units))
    packer = _Packer(rows, builder, packing.tokens_per_batch)
    target = packing.rows_per_step * world_size
    return [packer.step(step, world_size) for step in _steps((units[index] for index in order), target)]


def group_rows(rows: Sequence[PlanRow], pairing: Pairing, seed: int = 0) -> list[list[int]]:
    """Indices of rows that belong together: each alone, those of a clip, or of two clips that serve each other."""
    if pairing == "independent":
        return [[index] for index in range(len(rows))]
    of_clip: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        of_clip.setdefault(row.clip, []).append(index)
    if pairing == "grouped":
        return list(of_clip.values())
    links = ((row.clip, row.partner) for row in rows if row.partner in of_clip)
    partner = match(pair_weights((a, b) for a, b in links if b is not None), seed)
    groups = []
    for clip, indices in of_clip.items():
        if clip not in partner:
            groups.append(indices)
        elif clip < partner[clip]:
            groups.append(indices + of_clip[partner[clip]])
    return groups


def _cut(group: list[int], most: int) -> Iterator[list[int]]:
    """The group in parts of nearly equal size, none above `most` rows."""
    parts = math.ceil(len(group) / most)
    bounds = [round(part * len(group) / parts) for part in range(parts + 1)]
    for start, end in pairwise(bounds):
        yield group[start:end]


def _steps(units: Iterable[list[int]], target: int) -> Iterator[list[list[int]]]:
    """Whole units until one more would bring the step no nearer to `target` rows."""
    step: list[list[int]] = []
    size = 0
    for unit in units:
        if step and size + len(unit) - target > target - size:
            yield step
            step, size = [], 0
        step.append(unit)
        size += len(unit)
    if step:
        yield step


class _Packer:
    """Shares the units of a step among processes, and packs each process's share into micro-batches."""

    def __init__(self, rows: Sequence[PlanRow], builder: SequenceBuilder, budget: int) -> None:
        self._budget = budget
        self._nodes_of: list[Nodes] = [tree_nodes(builder.pieces(spec) for spec in row.specs) for row in rows]

    def step(self, units: list[list[int]], world_size: int) -> StepPlan:
        """Plan one step of these units."""
        packed = [self._pack(share) for share in self._share(units, world_size)]
        loads = [load for _, shares in packed for load in shares]
        return StepPlan(
            tuple(tuple(batches) for batches, _ in packed),
            sum(load.tokens for load in loads),
            sum(load.pairs for load in loads),
        )

    def _nodes(self, indices: Iterable[int]) -> Nodes:
        """Nodes of the prefix tree of some rows."""
        nodes: Nodes = {}
        for index in indices:
            nodes |= self._nodes_of[index]
        return nodes

    def _share(self, units: list[list[int]], world_size: int) -> list[list[list[int]]]:
        """Give each process units of about as many tokens, longest first."""
        if world_size == 1:
            return [units]
        shares: list[list[list[int]]] = [[] for _ in range(world_size)]
        load = [0] * world_size
        sizes = [TreeSize(self._nodes(unit)).tokens for unit in units]
        for position in sorted(range(len(units)), key=lambda position: (-sizes[position], position)):
            lightest = load.index(min(load))
            shares[lightest].append(units[position])
            load[lightest] += sizes[position]
        return shares

    def _pack(self, units: Iterable[list[int]]) -> tuple[list[MicroBatch], list[TreeSize]]:
        """Micro-batches within the budget, and what they hold; a unit above the budget is taken apart into rows."""
        batches: list[list[int]] = []
        loads: list[TreeSize] = []
        for unit in units:
            fits = TreeSize(self._nodes(unit)).tokens <= self._budget
            for part in [unit] if fits else [[index] for index in unit]:
                nodes = self._nodes(part)
                if not loads or loads[-1].tokens_with(nodes) > self._budget:
                    batches.append([])
                    loads.append(TreeSize())
                batches[-1].extend(part)
                loads[-1].add(nodes)
        return [tuple(batch) for batch in batches], loads


def pack_specs(builder: SequenceBuilder, specs: Iterable[ScoreSpec], tokens_per_batch: int) -> list[list[ScoreSpec]]:
    """Cut specs, in their order, into batches of at most so many distinct tokens (or of a single spec)."""
    batches: list[list[ScoreSpec]] = []
    size = TreeSize()
    for spec in specs:
        nodes = tree_nodes([builder.pieces(spec)])
        if not batches or size.tokens_with(nodes) > tokens_per_batch:
            batches.append([])
            size = TreeSize()
        batches[-1].append(spec)
        size.add(nodes)
    return batches


def plan_digest(steps: Sequence[StepPlan]) -> str:
    """SHA-256 of a plan."""
    return json_sha256([step.ranks for step in steps])


def summarise(steps: Sequence[StepPlan], rows: Sequence[PlanRow], builder: SequenceBuilder) -> PlanSummary:
    """Count the work of some steps."""
    batches = [batch for step in steps for rank in step.ranks for batch in rank]
    specs = [[spec for index in batch for spec in rows[index].specs] for batch in batches]
    return PlanSummary(
        rows=sum(map(len, batches)),
        steps=len(steps),
        batches=len(batches),
        prefixes=sum(len({(spec.video, spec.audio) for spec in batch}) for batch in specs),
        tokens=sum(step.tokens for step in steps),
        plain_tokens=sum(plain_tokens(builder, batch) for batch in specs),
    )
