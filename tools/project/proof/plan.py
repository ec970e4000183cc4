"""What the proof runs: arms, each some grids of runs from one base with its own seeds.

All runs of an arm start from the same base, so that seeds are of preference training alone: of the adapters' first
weights, of the order of rows and of every draw. Two more bases say whether what was found depends on the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from avem.tools.project.proof.ground.making import USUAL, BaseKind, Rows
from avem.tools.project.proof.ground.presets import SUPERVISED
from avem.tools.project.proof.ground.rows import FORMS, REASONS, VERDICTS
from avem.tools.sweep.grid import Grid, GridRun, read_grid, without_blocks
from avem.train.settings.presets import PREFERENCE_PRESETS

ROWS = Rows(REASONS, 700)
"""Preference rows of every run that is compared, unless others are asked for. As in the paper (Table 12), answers give
a reason after the verdict, so that the two rejected answers differ. Of verdicts alone, both are the same word."""
SEEDS = tuple(range(5))
MORE = tuple(range(8))
MOST = tuple(range(12))
"""Seeds of most tables; of Table 5 and of runs whose open claims need a few more; and of Table 3, AVEm-DPO and its
rivals, whose differences are the smallest."""
FEWER = (0, 1, 2)
CHECKS = (0, 1)
BASE_MARK = ", base "
"""Between a run's name and its base, for runs from another base than the first."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Grids of runs from one base."""

    grids: tuple[str, ...]
    seeds: tuple[int, ...]
    base: int = 0
    only: tuple[str, ...] = ()
    """Runs of these grids; empty for all of them."""
    fixed: bool = False
    """Whether each seed has a meaning of its own, so that others can't stand for it."""

    def seeded(self, seeds: tuple[int, ...]) -> Arm:
        """The arm with the seeds asked for; of fixed ones, those that are asked for. Empty for its own."""
        if not seeds:
            return self
        return replace(self, seeds=tuple(filter(seeds.__contains__, self.seeds)) if self.fixed else seeds)

    def called(self, run: str) -> str:
        """The name of a run in the results: with its base, where that is not the first."""
        return f"{run}{BASE_MARK}{self.base}" if self.base else run

    @property
    def names(self) -> set[str]:
        """The names of all its runs in the results."""
        return {self.called(run.name) for grid in self.chosen(lambda _: True) for run in grid.runs}

    def chosen(self, wanted: Callable[[str], bool]) -> list[Grid]:
        """Its grids, each with those runs whose name in the results is wanted."""

        def kept(run: GridRun) -> bool:
            return (not self.only or run.name in self.only) and wanted(self.called(run.name))

        grids = [without_blocks(read_grid(name)) for name in self.grids]
        left = [replace(grid, runs=tuple(filter(kept, grid.runs))) for grid in grids]
        return [grid for grid in left if grid.runs]


ARMS = (
    Arm(("table3",), MOST),
    Arm(("table5",), MORE),
    Arm(("table17", "table18"), SEEDS),
    Arm(("table17",), MORE[len(SEEDS) :], only=("random clip, both", "random clip, by prompt")),
    Arm(("table18",), MOST[len(SEEDS) :], only=("emotion-relevant",)),
    Arm(("table18",), MORE[len(SEEDS) :], only=("emotion-relevant and irrelevant",)),
    Arm(("strengths", "pairing"), FEWER),
    Arm(("strengths",), MORE[len(FEWER) :], only=("lambda_av = 1.0", "lambda_av = 2.0")),
    Arm(("split", "rivals", "corrections", "adapters"), FEWER),
    *(Arm(("table3", "table5"), CHECKS, base) for base in (1, 2)),
    Arm(("orders",), (0,), fixed=True),
    Arm(("one-order",), (1, 2, 3), fixed=True),
)


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve: a run with one thing changed, with the first seed, asked about the validation clips."""

    curve: str
    value: str
    rows: Rows = ROWS
    settings: Mapping[str, Any] = field(default_factory=dict)
    base: BaseKind = USUAL


MANY_CLIPS = 11_200
"""More than the corpus has: the curves make a store with so many of them."""


def _clips(curve: str, settings: Mapping[str, Any]) -> list[Point]:
    """As many steps with more clips: each is seen less often."""
    return [
        Point(curve, str(clips), Rows(ROWS.form, clips), {**settings, "epochs": epochs})
        for clips, epochs in ((350, 4), (700, 2), (1400, 1))
    ]


def _trained_for(epochs: int) -> BaseKind:
    """The usual base, where these are its epochs."""
    return USUAL if epochs == SUPERVISED["proof"]["epochs"] else BaseKind(epochs=epochs)


CURVES = (
    *_clips("clips, as many steps", {}),
    *_clips("clips, as many steps, split", {"rejected": "each"}),
    *(
        Point(f"clips, one epoch{called}", str(clips), Rows(form, clips), {"epochs": 1})
        for form, called in ((ROWS.form, ""), (VERDICTS, ", verdicts alone"))
        for clips in (700, 2800, MANY_CLIPS)
    ),
    *(
        Point("parts, 2,800 clips, verdicts alone", called, Rows(VERDICTS, 2800), {"epochs": 1, **settings})
        for called, settings in {
            "AVEm-DPO": {},
            "w/o PMP": PREFERENCE_PRESETS["no-pmp"],
            "w/o TPD": PREFERENCE_PRESETS["no-tpd"],
            "Naive-DPO": PREFERENCE_PRESETS["naive-dpo"],
        }.items()
    ),
    *(Point("epochs", str(epochs), settings={"epochs": epochs}) for epochs in (1, 2, 4)),
    *(Point("form of the answers", form, Rows(form, ROWS.clips)) for form in FORMS),
    *(Point("form of the answers, split", form, Rows(form, ROWS.clips), {"rejected": "each"}) for form in FORMS),
    *(
        Point("LoRA rank", str(rank), settings={"tune": "lora", "learning_rate": 1e-3, "lora_rank": rank})
        for rank in (2, 8, 32)
    ),
    Point("LoRA rank", "all weights"),
    *(Point("the chosen answer's own loss", str(value), settings={"nll": value}) for value in (0.0, 1.0)),
    *(Point("gamma_tpd", str(value), settings={"gamma_tpd": value}) for value in (0.0, 0.3, 1.0)),
    *(Point("the base's epochs", str(epochs), base=_trained_for(epochs)) for epochs in (1, 2, 4)),
    *(Point("the base's width", str(width), base=BaseKind(width=width)) for width in (96, 160, 224)),
)
"""What may limit the method, one thing at a time; a point that is the usual run is made once for all curves."""
