"""Flex attention compiled, without a GPU: the same values as call by call, and one kernel for rows of every length.

PyTorch compiles its forward pass for processors with a C++ compiler. The Triton kernels of GPUs and the backward pass
run on a GPU alone: `test_flex_attention_works_on_this_gpu` has them.
"""

from __future__ import annotations

import random
import shutil
from functools import cache

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

from avem.train.prefix import flex
from avem.train.prefix.attention import TreeAttention
from avem.train.prefix.blocks import padded_length
from avem.train.prefix.flex import FlexTreeAttention
from avem.train.prefix.sdpa import Weighting
from avem.train.prefix.tree import build_tree
from tests.train.prefix.tree_kit import random_tree

CPU = torch.device("cpu")
COMPILER = next((name for name in ("g++", "clang++") if shutil.which(name)), None)
SIZES = (40, 300, 90, 700, 15, 500, 130)
"""Longest sequence of each row; rows are of one block and of several."""


@pytest.fixture
def compiled(monkeypatch):
    """Flex attention is compiled as on a GPU; what was compiled before is forgotten."""
    torch._dynamo.reset()
    monkeypatch.setattr(flex, "_kernel", lambda _: flex.compiled_flex)
    monkeypatch.setattr(flex, "_compiled", cache(flex._compiled.__wrapped__))
    yield monkeypatch
    torch._dynamo.reset()


@pytest.fixture
def counted(compiled):
    """Compilations are counted, and what was traced runs as it is."""
    counter = CompileCounterWithBackend("eager")
    kernel = torch.compile(flex._flex, dynamic=True, fullgraph=True, backend=counter)
    compiled.setattr(flex, "_compiled", lambda: kernel)
    return counter


def random_parts(tree, shape, dtype):
    heads, shared, size = shape
    generator = torch.Generator().manual_seed(tree.positions)
    return [torch.randn(1, n, tree.positions, size, generator=generator).to(dtype) for n in (heads, shared, shared)]


def flex_values(tree, shape, dtype, weighting):
    with torch.no_grad():
        return FlexTreeAttention.of(tree, CPU).attend(*random_parts(tree, shape, dtype), weighting)


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler (g++ or clang++) is installed")
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="needs a processor with AVX2")
@pytest.mark.parametrize(
    ("shape", "dtype", "weighting", "tolerance"),
    [
        ((4, 2, 64), torch.float32, Weighting(None, 0.0), 1e-5),
        ((2, 1, 32), torch.float32, Weighting(0.2, 0.0, 3.0), 1e-5),
        ((6, 2, 80), torch.bfloat16, Weighting(None, 0.0), 2e-2),
    ],
    ids=["grouped queries", "one key head, capped", "bfloat16"],
)
def test_compiled_kernels_agree_with_call_by_call(compiled, shape, dtype, weighting, tolerance):
    chance, before = random.Random(5), counters["stats"]["unique_graphs"]
    for size in SIZES:
        tree = random_tree(chance, size)
        found = flex_values(tree, shape, dtype, weighting)
        expected = TreeAttention.of(tree, CPU).attend(*random_parts(tree, shape, dtype), weighting)
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    assert counters["stats"]["unique_graphs"] - before == 1


@pytest.mark.parametrize("first", [15, 500])
def test_rows_of_every_length_share_a_kernel(counted, first):
    """Whether the first row is short or long."""
    chance = random.Random(first)
    lengths = set()
    for size in (first, *SIZES):
        tree = random_tree(chance, size)
        lengths.add(padded_length(tree.positions))
        flex_values(tree, (4, 2, 16), torch.float32, Weighting(None, 0.0))
    assert len(lengths) > 4
    assert counted.frame_count == 1


def test_as_many_blocks_as_heads(counted):
    """PyTorch takes two sizes that are equal at first for one, and the number of heads for a constant."""
    for blocks in (4, 2, 5):
        tree = build_tree([[0] * (128 * blocks)], lambda _: 1)
        flex_values(tree, (4, 2, 16), torch.float32, Weighting(None, 0.0))
    assert counted.frame_count == 1


def test_every_kind_of_layer_is_compiled_once(counted):
    """Nine kinds: PyTorch by itself gives up compiling after the eighth, and computes a matrix of all pairs."""
    weightings = [Weighting(scale, 0.0, cap) for scale, cap in ((None, None), (0.3, None), (0.3, 5.0))]
    kinds = [((4, 2, 16), torch.float32), ((4, 4, 16), torch.float32), ((4, 2, 16), torch.bfloat16)]
    for size in (20, 200):
        tree = random_tree(random.Random(size), size)
        for shape, dtype in kinds:
            for weighting in weightings:
                flex_values(tree, shape, dtype, weighting)
    assert counted.frame_count == len(kinds) * len(weightings)
