"""A training step as avem computes it, against the same step computed plainly."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from avem.tools.doctor.findings import Finding, Verdict
from avem.tools.project.benchmarks.step import CACHED, Bench, timed
from avem.tools.project.benchmarks.step_kit import Shape, StepKit, make_kit
from avem.train.run.flops import StepCost, matmul_peak
from avem.train.settings.config import Pairing

SHAPES = {"cpu": Shape(128, 2, 2, 3, 30, 30), "cuda": Shape(1024, 8, 2, 3, 50, 55)}
"""Seconds on either; token counts are those of AVERE."""
TOLERANCES = {"float32": 1e-4, "bf16": 5e-2}
"""Largest difference of the two losses; both are means over six rows."""
FORMATS = {"float32": "float32", "bf16": "bfloat16"}
LITTLE_GAIN = 2.0
GOOD_SHARE = 0.5
"""What `docs/performance.md` has as its target."""
PAIRING: Pairing = "mutual"


@dataclass(frozen=True, slots=True)
class _OnDevice:
    """A kit whose runs take a device and a number format."""

    kit: StepKit
    device: str
    precision: str

    @property
    def settings(self) -> dict[str, Any]:
        """Settings for a `PreferenceConfig`."""
        return {**self.kit.settings, "device": self.device, "precision": self.precision}

    def encode(self, side: str, clip: int, /) -> torch.Tensor:
        """As the kit's."""
        return self.kit.encode(side, clip)


def packed_step(device: torch.device) -> Iterator[Finding]:
    """Do one step on six rows both ways, and compare times and losses."""
    precision = "bf16" if device.type == "cuda" else "float32"
    with tempfile.TemporaryDirectory() as folder:
        kit = _OnDevice(make_kit(Path(folder), SHAPES[device.type]), device.type, precision)
        bench = Bench.open(kit, PAIRING)
        packed = f"avem, {PAIRING}"
        sides = {packed: bench.avem_side(PAIRING), CACHED: bench.plain_side(CACHED, 2)}
        for run in sides.values():
            run()  # compiles kernels
        seconds, _ = timed(sides, 1)
        plan = bench.step(PAIRING)
        operations = StepCost.of(bench.session.model).step(plan.tokens, plan.pairs)
        peak = matmul_peak(device, torch.bfloat16 if precision == "bf16" else torch.float32)
        share = operations / seconds[packed] / peak
        difference = abs(bench.losses[packed] - bench.losses[CACHED])
    ratio = seconds[CACHED] / seconds[packed]
    few = ratio < LITTLE_GAIN
    yield Finding(
        "step",
        "speed",
        f"{seconds[packed]:.2f} s as avem does it, where questions on one video share its part; "
        f"{seconds[CACHED]:.2f} s question by question: {ratio:.1f} times faster",
        Verdict.NOTE if few else Verdict.OK,
        "Sharing work gains little here, which is unusual. Please report it with the output of `avem doctor --format "
        "json`."
        if few
        else "",
        {"packed_s": seconds[packed], "plain_s": seconds[CACHED], "ratio": ratio, "precision": precision},
    )
    of_all = f"{share:.0%}" if share < 1 else "100 % or more (other programs disturbed the measurement)"
    yield Finding(
        "step",
        "of the best speed",
        f"{of_all} of the best speed in {FORMATS[precision]} (see Computing); {GOOD_SHARE:.0%} and more is good",
        numbers={"share": share},
        label="efficiency",
    )
    same = difference <= TOLERANCES[precision]
    yield Finding(
        "step",
        "loss",
        f"yes: the loss, the number that training lowers, differs by less than {TOLERANCES[precision]:g} between them"
        if same
        else f"no: the loss, the number that training lowers, differs by {difference:.2g} between them, and should by "
        f"less than {TOLERANCES[precision]:g}",
        Verdict.OK if same else Verdict.PROBLEM,
        ""
        if same
        else "The two ways of training should agree. Don't train here; please report the output of "
        "`avem doctor --format json`.",
        {"difference": difference, "tolerance": TOLERANCES[precision]},
        label="same result",
    )
