"""One optimiser step on a device: packed by avem in three ways, and computed plainly in two."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from avem.tools.project.benchmarks.gpu.budget import Part, is_out_of_memory, release
from avem.tools.project.benchmarks.gpu.kits import DeviceKit, ThinkerKit
from avem.tools.project.benchmarks.gpu.results import Table, Value
from avem.tools.project.benchmarks.memory.measure import peak_bytes
from avem.tools.project.benchmarks.omni_step import plain_side as omni_side
from avem.tools.project.benchmarks.step import CACHED, ENCODERS, Bench
from avem.train.packing.epoch import StepPlan
from avem.train.prefix.tree import PrefixTree, build_tree
from avem.train.run.flops import StepCost
from avem.train.run.memory import MemoryEstimate, device_bytes
from avem.train.run.preview import run_memory
from avem.train.settings.config import Pairing

GIB = 1 << 30
PAIRINGS: tuple[Pairing, ...] = ("mutual", "grouped", "independent")
ORDER = ("avem, mutual", CACHED, ENCODERS, "avem, grouped", "avem, independent")
"""Sides, the most important first."""
PLAIN_ROWS = (2, 1)
"""Rows that the plain step takes at once; the next number is tried where the one before does not fit."""
OMNI_NAMES = {CACHED: "plain, cached scores and features", ENCODERS: "plain, towers in the loop"}


@dataclass(frozen=True, slots=True)
class Load:
    """What a side sends through the language model in a step."""

    tokens: int
    """Positions, padding included."""
    operations: float
    """Of forward and backward passes and towers."""


@dataclass
class StepBench:
    """All sides of one model; `open` comes first.

    Args:
        name: Of the model, in titles.
        make: Writes the store and gives the kit.
        rounds: Timed rounds of a side.
        peak: Operations a second of a large matrix product.
    """

    name: str
    make: Callable[[], DeviceKit]
    rounds: int
    peak: float
    bench: Bench | None = None
    estimate: MemoryEstimate | None = None
    tree: PrefixTree | None = None
    """Of the mutual step, for the comparison of attention."""
    seconds: dict[str, float] = field(default_factory=dict)

    def parts(self, like: str = "", ratio: float = 1.0) -> list[Part]:
        """Opening and the sides, the most important first; `like` and `ratio` predict how long opening takes."""
        opened = f"{self.name}: open"
        found = [Part(opened, self.open, lambda: 0.0, like=like, ratio=ratio)]
        for side in ORDER:
            found.append(Part(f"{self.name}: {side}", partial(self.measure, side), partial(self.cost, side), opened))
        return found

    def open(self) -> None:
        """Make towers, store and model, estimate the memory of a step, and score the constants."""
        kit = self.make()
        self.estimate = self._estimate(kit)
        if not (kit.place.checkpointing or self.estimate.fits):
            kit.place = replace(kit.place, checkpointing=True)
            self.estimate = self._estimate(kit)
        self.bench = Bench.open(kit, "mutual", kit.model())
        self.tree = _tree(self.bench)

    def _estimate(self, kit: DeviceKit) -> MemoryEstimate:
        """Of the mutual step, from a model without storage."""
        bench = Bench.outline(kit, "mutual", kit.skeleton())
        found = run_memory(bench.session, [bench.step("mutual")], bench.rows)
        return replace(found, capacity=device_bytes(kit.place.device))

    def close(self) -> None:
        """Free the device for the next model."""
        self.bench = None
        release()

    def cost(self, side: str) -> float:
        """Operations of measuring a side: a round to warm up and the timed ones."""
        return (1 + self.rounds) * self._load(side, PLAIN_ROWS[0]).operations

    def measure(self, side: str) -> Table:
        """Time a side's step, and measure its memory."""
        bench = self._opened
        bench.session.model.zero_grad(set_to_none=True)  # a side that ran out of memory leaves gradients
        notes: list[str] = []
        if side not in (CACHED, ENCODERS):
            row = self._timed(side, bench.avem_side(_pairing(side)), self._load(side, 0))
        else:
            for rows in PLAIN_ROWS:
                try:
                    row = self._timed(side, self._plain(side, rows), self._load(side, rows))
                    break
                except Exception as error:
                    if rows == PLAIN_ROWS[-1] or not is_out_of_memory(error):
                        raise
                    notes.append(f"{side}: out of memory with {rows} rows at once.")
                release()
            notes.append(f"{side}: {rows} rows at once.")
        if bench.config.gradient_checkpointing:
            notes.append("Every side computes activations again in the backward pass (gradient checkpointing).")
        return Table(f"One step, {self.name}", (row,), tuple(notes))

    def _plain(self, side: str, rows: int) -> Callable[[], None]:
        bench = self._opened
        kit = bench.kit
        if isinstance(kit, ThinkerKit):
            run = omni_side(bench, kit, OMNI_NAMES[side], rows)

            def renamed() -> None:
                run()
                bench.losses[side] = bench.losses[OMNI_NAMES[side]]

            return renamed
        return bench.plain_side(side, rows)

    def _timed(self, side: str, run: Callable[[], None], load: Load) -> dict[str, Value]:
        bench = self._opened
        device = bench.session.accelerator.device
        left = peak_bytes(run, device).left  # compiles kernels, makes the optimiser's moments
        seconds = []

        def rounds() -> None:
            for _ in range(self.rounds):
                seconds.append(timed(run, device))

        if device.type == "cuda":
            most = peak_bytes(rounds, device).most
        else:  # the CPU's memory is read through the profiler, which takes time
            rounds()
            most = peak_bytes(run, device).most
        taken = self.seconds[side] = min(seconds)
        checked = bench.config.gradient_checkpointing
        done = load.operations * (4 / 3 if checked else 1)  # a forward pass more
        rows = len(bench.rows)
        total = (held_bytes(bench) + left + most) / GIB
        estimated = self.estimate.total / GIB if side == ORDER[0] and self.estimate else None
        losses = bench.losses
        return {
            "side": side,
            "s a row": taken / rows,
            "tokens of the rows a second": sum(_lengths(bench)) / taken,
            "tokens through the model": load.tokens,
            "share of peak": done / taken / self.peak,
            "peak memory, GiB": total,
            "estimated, GiB": estimated,
            "time / packed": taken / self.seconds[ORDER[0]] if ORDER[0] in self.seconds else None,
            "loss": losses[side],
            "difference from the packed loss": abs(losses[side] - losses[ORDER[0]]) if ORDER[0] in losses else None,
        }

    def _load(self, side: str, rows: int) -> Load:
        """What a side computes in a step.

        Args:
            side: One of `ORDER`.
            rows: Rows that a plain side pads to one length.
        """
        bench = self._opened
        cost = StepCost.of(bench.session.model)
        if side not in (CACHED, ENCODERS):
            plan: StepPlan = bench.step(_pairing(side))
            return Load(plan.tokens, cost.step(plan.tokens, plan.pairs))
        each = [[bench.session.builder.length(spec) for spec in row.scores.values()] for row in bench.rows]
        batches = [each[start : start + rows] for start in range(0, len(each), rows)]
        tokens = pairs = 0
        for batch in batches:
            longest, count = max(map(max, batch)), sum(map(len, batch))
            tokens += longest * count
            pairs += longest * (longest + 1) // 2 * count
        policy = cost.step(tokens, pairs)
        if side == CACHED:
            return Load(tokens, policy)
        texts = sum(bench.session.builder.length(spec) for row in bench.rows for spec in row.texts.values())
        reference = cost.step(tokens, pairs) / 3 + cost.step(texts, 0) / 2  # a forward pass alone
        towers = 1.5 * len(bench.rows) * bench.kit.tower_operations()  # type: ignore[attr-defined]  # own and rejected
        return Load(2 * tokens + texts, policy + reference + towers)

    @property
    def _opened(self) -> Bench:
        if self.bench is None:
            raise RuntimeError(f"{self.name} is not open.")
        return self.bench


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, until the device has done all of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def held_bytes(bench: Bench) -> int:
    """Bytes of the model's weights, which stay between steps; features are read in the step."""
    return sum(tensor.numel() * tensor.element_size() for tensor in bench.session.model.parameters())


def _pairing(side: str) -> Pairing:
    return next(name for name in PAIRINGS if side.endswith(name))


def _lengths(bench: Bench) -> list[int]:
    """Positions of each sequence that the policy scores, nothing shared and nothing padded."""
    return [bench.session.builder.length(spec) for row in bench.rows for spec in row.specs]


def _tree(bench: Bench) -> PrefixTree:
    """The prefix tree of the largest micro-batch of the mutual step."""
    batches = [batch for rank in bench.step("mutual").ranks for batch in rank]
    batch = max(batches, key=len)
    specs = [spec for index in batch for spec in bench.rows[index].specs]
    pieces = [list(bench.session.builder.pieces(spec)) for spec in specs]
    number = {key: index for index, key in enumerate(dict.fromkeys(key for path in pieces for key, _ in path))}
    size = {number[key]: count for path in pieces for key, count in path}
    return build_tree([[number[key] for key, _ in path] for path in pieces], size.__getitem__)
