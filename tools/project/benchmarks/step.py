"""Times one optimiser step of avem against the same step computed plainly, losses compared in the same run.

python -m avem.tools.project.benchmarks.step
"""

from __future__ import annotations

import ctypes
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import torch
import typer
from torch import Tensor

from avem.tools.project.benchmarks.loading import resident
from avem.tools.project.benchmarks.measure import alternate, show
from avem.tools.project.benchmarks.plain_step import PlainStep, with_plain_adapters
from avem.tools.project.benchmarks.step_kit import Shape, make_kit
from avem.train import PreferenceConfig
from avem.train.data.examples import PreferenceExample
from avem.train.data.features import ClipFeatures
from avem.train.data.rows import read_preferences
from avem.train.objective.constants import score_constants
from avem.train.objective.preference import PreferenceObjective
from avem.train.packing.epoch import Packing, StepPlan, group_rows, plan_epoch
from avem.train.packing.specs import ScoreSpec
from avem.train.preference import PreferenceTraining
from avem.train.run.loop import Loop, Plan
from avem.train.run.session import Session, prepare_model
from avem.train.settings.config import Pairing

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel

ENCODERS, CACHED = "plain, encoders in the loop", "plain, cached scores and features"
WATCHED_STEPS = 4
M_MMAP_THRESHOLD = -3
"""From `malloc.h`."""


class BenchKit(Protocol):
    """Where a benchmark's files lie, and its encoders."""

    @property
    def settings(self) -> dict[str, Any]:
        """Paths for a `PreferenceConfig`."""

    def encode(self, side: str, clip: int, /) -> Tensor:
        """Features of a clip as the store keeps them, without the clip's axis."""


@dataclass(slots=True)
class Bench:
    """The opened parts that all sides share: one model, one set of rows, one set of constants."""

    kit: BenchKit
    config: PreferenceConfig
    session: Session
    rows: list[PreferenceExample]
    constants: Mapping[ScoreSpec, float]
    losses: dict[str, float] = field(default_factory=dict)
    """Of each side."""

    @classmethod
    def open(cls, kit: BenchKit, pairing: Pairing, model: FamilyModel | None = None) -> Bench:
        """Score the constants and add adapters that make the policy another model than the reference.

        Args:
            kit: Store, rows and settings.
            pairing: How the settings say that rows are packed.
            model: Instead of the one that the settings name.
        """
        bench = cls.outline(kit, pairing, model)
        config, session, rows = bench.config, bench.session, bench.rows
        constants = score_constants(session, rows, session.features(_specs(rows)))
        prepare_model(session.model, config)
        generator = torch.Generator().manual_seed(3)
        for name, parameter in session.model.named_parameters():
            if "lora_B" in name:
                parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
        bench.constants = constants
        return bench

    @classmethod
    def outline(cls, kit: BenchKit, pairing: Pairing, model: FamilyModel | None = None) -> Bench:
        """The same without constants and adapters, which a model without storage can't have."""
        count = len(read_preferences(kit.settings["prefs"]))
        config = PreferenceConfig(
            **kit.settings,
            learning_rate=1e-12,
            batch_size=count,
            accumulation=1,
            pairing=pairing,
            trackers="none",
            save_every=0,
            keep_features_mb=0,
            warmup=0.0,
        )
        session = Session.open(config, model)
        rows = PreferenceTraining(config).examples(session, read_preferences(config.prefs))
        return cls(kit, config, session, rows, {})

    @property
    def features(self) -> ClipFeatures:
        """Access to the store's features."""
        return self.session.features(_specs(self.rows))

    def loop(self, pairing: Pairing) -> Loop:
        """The trainer's loop, with all rows in one step."""
        session = self.session
        objective = PreferenceObjective(self.rows, session.builder, self.constants, self.config)
        plan = Plan([self.step(pairing)] * WATCHED_STEPS, frozenset())
        return Loop(session, objective, self.features, plan)

    def step(self, pairing: Pairing) -> StepPlan:
        """All rows in one step, a micro-batch for each group: what comes beside it in a larger corpus is unrelated."""
        groups = group_rows(self.rows, pairing)
        packing = Packing(pairing, len(self.rows), 1 << 30)
        parts = [
            plan_epoch([self.rows[index] for index in group], self.session.builder, packing, seed=0) for group in groups
        ]
        steps = [step for part in parts for step in part]
        batches = tuple(tuple(group) for group in groups)
        return StepPlan((batches,), sum(step.tokens for step in steps), sum(step.pairs for step in steps))

    def avem_side(self, pairing: Pairing) -> Callable[[], None]:
        """A step of the trainer; reading the features is part of it."""
        loop, features = self.loop(pairing), self.features

        def run() -> None:
            self.losses[f"avem, {pairing}"] = loop.step(0, features.media(_specs(self.rows)))[0]["loss"]

        return run

    def plain_side(self, name: str, rows_per_batch: int) -> Callable[[], None]:
        """The plain step, one of `ENCODERS` and `CACHED`."""
        store = self.session.store

        def stored(kind: str, clip: int) -> Tensor:
            return store.features(kind, [clip])[0]

        encode, constants = (self.kit.encode, None) if name == ENCODERS else (stored, self.constants)
        model = with_plain_adapters(self.session.model)
        shapes: dict[str, tuple[int, ...]] = {kind: store.spec(kind).sized(1) for kind in store.kinds}
        step = PlainStep(model, self.rows, encode, shapes, self.config, rows_per_batch, constants)

        def run() -> None:
            self.losses[name] = step()

        return run


def peak_memory(run: Callable[[], None]) -> float:
    """Most memory that a call takes beyond what was there before it, MiB."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    library = ctypes.CDLL(None)
    library.mallopt(M_MMAP_THRESHOLD, 1 << 20)  # what is freed goes back at once, so that resident means in use
    library.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    run()
    return (resident("VmHWM") - before) / 2**20


def timed(sides: Mapping[str, Callable[[], None]], repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of each side on the clock and of the processor, medians; the latter hold on a busy machine too."""
    busy: dict[str, list[float]] = {name: [] for name in sides}

    def counted(name: str, run: Callable[[], None]) -> Callable[[], None]:
        def both() -> None:
            start = time.process_time()
            run()
            busy[name].append(time.process_time() - start)

        return both

    seconds = alternate({name: counted(name, run) for name, run in sides.items()}, repeats, warmup=0)
    return seconds, {name: statistics.median(times) for name, times in busy.items()}


def watched(bench: Bench, pairing: Pairing) -> dict[str, float]:
    """Speeds of a short run, as the trainer itself reports them; the first step, which waits for its rows, left out."""
    bench.session.run.path.mkdir()
    bench.loop(pairing).run()
    lines = (bench.session.run.path / "metrics.jsonl").read_text().splitlines()[1:]
    return {name: sum(json.loads(line)[name] for line in lines) / len(lines) for name in json.loads(lines[0])}


def _specs(rows: list[PreferenceExample]) -> list[ScoreSpec]:
    return [spec for row in rows for spec in row.specs]


def main(
    width: Annotated[int, typer.Option(help="Width of the language model, a multiple of 128.")] = 512,
    layers: Annotated[int, typer.Option(help="Its layers.")] = 1,
    clips: Annotated[int, typer.Option(help="Clips in the step.")] = 2,
    questions: Annotated[int, typer.Option(help="Questions on a clip.")] = 3,
    question_words: Annotated[int, typer.Option(help="Tokens of a question.")] = 50,
    answer_words: Annotated[int, typer.Option(help="Tokens of an answer.")] = 55,
    pairing: Annotated[list[str] | None, typer.Option(help="Repeat. [default: all three]")] = None,
    encoders: Annotated[bool, typer.Option(help="Also time the plain step with encoders in the loop.")] = True,
    rows_per_batch: Annotated[int, typer.Option(help="Rows that the plain step takes at once.")] = 2,
    repeats: Annotated[int, typer.Option(help="Timed rounds.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
    memory: Annotated[bool, typer.Option(help="Also measure memory, one more step a side.")] = True,
) -> None:
    """Make clips, encoders and a model, do the step on all sides, and print times, ratios, memory and losses."""
    torch.set_num_threads(threads)
    pairings: list[Pairing] = [name for name in pairing or ("mutual", "grouped", "independent")]  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        kit = make_kit(Path(folder), Shape(width, layers, clips, questions, question_words, answer_words))
        bench = Bench.open(kit, pairings[0])
        sides = {f"avem, {name}": bench.avem_side(name) for name in pairings}
        for run in sides.values():
            run()
        plain = [ENCODERS, CACHED] if encoders else [CACHED]
        sides |= {name: bench.plain_side(name, rows_per_batch) for name in plain}
        seconds, busy = timed(sides, repeats)
        peaks = {name: peak_memory(run) for name, run in sides.items()} if memory else {}
        speed = watched(bench, pairings[0])
    rows = []
    for name in sides:
        ratios = [f"{seconds[o] / seconds[name]:.1f}x ({busy[o] / busy[name]:.1f}x)" for o in plain]
        share = f"{peaks[name]:.0f} MiB, {peaks[name] / peaks[CACHED]:.2f}x" if memory else ""
        difference = abs(bench.losses[name] - bench.losses[CACHED])
        taken = f"{seconds[name]:.2f} s ({busy[name]:.2f} s)"
        rows.append((name, taken, *ratios, share, f"{bench.losses[name]:.6f}", f"{difference:.1e}"))
    show(
        f"One step on {clips * questions} rows, {questions} on a clip ({width} wide, {layers} layers, LoRA, float32; "
        f"{pairings[0]}: {speed['share_of_peak']:.0%} of the matmul peak, {speed['share_waiting']:.2%} of the time "
        "waiting for data; in brackets, of processor time)",
        ("side", "seconds (of processor)", *(f"{name} / side" for name in plain), "memory", "loss", "difference"),
        rows,
    )


if __name__ == "__main__":
    typer.run(main)
