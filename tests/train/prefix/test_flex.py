"""Flex attention sees what attention call by call sees, and is planned without a matrix of all pairs."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_block_mask

from avem.errors import SettingError
from avem.train.prefix import flex as flex_module
from avem.train.prefix.attention import TreeAttention, sees, subtree_ends
from avem.train.prefix.blocks import BLOCK, padded_length, tree_block_mask
from avem.train.prefix.flex import FlexTreeAttention, _flex, flex_works, tree_attention
from avem.train.prefix.sdpa import Weighting
from avem.train.prefix.tree import build_tree
from tests.train.prefix.tree_kit import random_tree

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


def test_number_formats_of_autocast_are_made_alike(monkeypatch):
    """Under autocast values are bfloat16 and rotated queries and keys float32."""
    tree = build_tree(PATHS, size_of)
    query, key, value = torch.randn(3, 1, 2, tree.positions, 8, generator=torch.Generator().manual_seed(0)).unbind()
    seen = []
    monkeypatch.setattr(flex_module, "_kernel", lambda _: lambda *parts: (seen.append(parts[:3]), _flex(*parts))[1])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = FlexTreeAttention.of(tree, CPU).attend(query, key, value.bfloat16(), Weighting(None, 0.0))
    expected = TreeAttention.of(tree, CPU).attend(query, key, value, Weighting(None, 0.0))
    assert {part.dtype for part in seen[0]} == {found.dtype} == {torch.bfloat16}
    torch.testing.assert_close(found.float(), expected, atol=2e-2, rtol=0)


NAMES = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")
NAMES += ("q_num_blocks", "q_indices", "full_q_num_blocks", "full_q_indices")


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 700))
def test_blocks_are_those_of_pytorch(seed, longest):
    """PyTorch evaluates the mask at every pair of positions and looks at each block of the result."""
    tree = random_tree(random.Random(seed), longest)
    length = padded_length(tree.positions)
    ends = torch.arange(1, length + 1)
    ends[: tree.positions] = subtree_ends(tree)
    expected = create_block_mask(lambda _, __, q, k: sees(q, k, ends), None, None, length, length, device="cpu")
    found = tree_block_mask(tree, CPU)
    assert found.shape == expected.shape
    assert found.BLOCK_SIZE == expected.BLOCK_SIZE == (BLOCK, BLOCK)
    for name in NAMES:
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def test_blocks_of_two_answers_to_a_prompt():
    """Two blocks of prompt and one for each answer: an answer does not see the other, so 9 of the 10 causal blocks."""
    tree = build_tree([[1] * 256 + [2] * 128, [1] * 256 + [3] * 128], lambda _: 1)
    mask = tree_block_mask(tree, CPU)
    assert mask.full_kv_num_blocks.tolist() == [[[0, 1, 2, 2]]]
    assert mask.kv_num_blocks.tolist() == [[[1, 1, 1, 1]]]  # the diagonal
    assert mask.full_kv_indices[0, 0, 3, :2].tolist() == [0, 1]
    assert mask.kv_indices[0, 0, 3, 0] == 3


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
