"""The estimate of memory is within a tenth of what a real step takes, for every family and number format."""

from __future__ import annotations

import pytest
import torch

from avem.tools.project.benchmarks.memory.cases import CASES, config_of
from avem.tools.project.benchmarks.memory.kits import FAMILIES, make_kit
from avem.tools.project.benchmarks.memory.measure import measure, peak_bytes

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=FAMILIES)
def kit(request, tmp_path_factory):
    return make_kit(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_estimate_is_that_of_a_real_step(kit, case, tmp_path):
    found = measure(config_of({**kit, "out": tmp_path / "run"}, case))
    assert abs(found.error) < 0.1
    assert found.peak > 4 << 20  # so that it is the tensors of a pass that are compared


def test_the_allocator_is_read_by_hand():
    """Two tensors of 4 MB at once, one of which stays; what was there before does not count."""
    before, kept = torch.zeros(1 << 20), []

    def run():
        kept.append(torch.ones(1 << 20) + torch.ones(1 << 20))
        before.add_(1)

    found = peak_bytes(run, CPU)
    assert found.most == pytest.approx(3 << 22, rel=1e-3)
    assert found.left == pytest.approx(1 << 22, rel=1e-3)
