"""Flex attention sees what attention call by call sees; compiled kernels need a GPU, the mask does not."""

from __future__ import annotations

import pytest
import torch

from avem.errors import SettingError
from avem.train.prefix.attention import TreeAttention, sees, subtree_ends
from avem.train.prefix.flex import FlexTreeAttention, flex_works, tree_attention
from avem.train.prefix.sdpa import Weighting
from avem.train.prefix.tree import build_tree

PATHS = [[1, 1, 2, 3, 4], [1, 1, 2, 5], [1, 1, 6, -2, 7], [1, 8]]
CPU = torch.device("cpu")


def size_of(atom: int) -> int:
    """Negative atoms are media of forty positions."""
    return 1 if atom >= 0 else 40


def test_a_position_sees_its_own_sequence_up_to_itself():
    tree = build_tree(PATHS, size_of)
    places = torch.arange(tree.positions)
    visible = sees(places[:, None], places[None], subtree_ends(tree))
    for number in tree.order:
        node = tree.nodes[number]
        before = [step for step in tree.path(number)[:-1]]
        own = {tree.nodes[step].start + offset for step in before for offset in range(tree.nodes[step].size)}
        for offset in range(node.size):
            own.add(node.start + offset)
            assert set(visible[node.start + offset].nonzero().flatten().tolist()) == own


@pytest.mark.parametrize(("heads", "softcap"), [(4, None), (2, 3.0)])
def test_both_ways_agree(heads, softcap):
    tree = build_tree(PATHS, size_of)
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, tree.positions, 16, generator=generator)
    key, value = (torch.randn(1, heads, tree.positions, 16, generator=generator) for _ in range(2))
    weighting = Weighting(0.3, 0.0, softcap)
    with torch.no_grad():
        blocks = TreeAttention.of(tree, CPU).attend(query, key, value, weighting)
        flex = FlexTreeAttention.of(tree, CPU).attend(query, key, value, weighting)
    torch.testing.assert_close(flex, blocks, atol=1e-5, rtol=1e-5)


def test_dropped_weights_are_refused():
    tree = build_tree(PATHS, size_of)
    parts = torch.randn(3, 1, 2, tree.positions, 8)
    with pytest.raises(SettingError, match="attention_dropout"):
        FlexTreeAttention.of(tree, CPU).attend(*parts, Weighting(None, 0.1))


def test_the_device_decides():
    assert isinstance(tree_attention(build_tree(PATHS, size_of), CPU), TreeAttention)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_flex_attention_works_on_this_gpu():
    assert flex_works(torch.device("cuda"))
