"""The prefix tree's layout and its attention calls, without any tensor."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from avem.train.prefix.tree import TreeSize, build_tree, plan_blocks, tree_nodes

sequences = st.lists(st.lists(st.integers(-3, 4), min_size=1, max_size=12), min_size=1, max_size=10)


def size_of(atom: int) -> int:
    """Negative atoms are media of two to four positions."""
    return 1 if atom >= 0 else 1 - atom


def test_two_answers_share_their_question():
    tree = build_tree([[1, 2, 3, 4], [1, 2, 5], [1, 2, 3, 6]], size_of)
    assert tree.positions == 6
    assert [tree.nodes[number].atoms for number in tree.order] == [[1, 2], [3], [4], [6], [5]]
    assert [tree.nodes[number].start for number in tree.order] == [0, 2, 3, 4, 5]
    assert [tree.nodes[number].depth for number in tree.order] == [0, 2, 3, 3, 2]


def test_strangers_share_nothing():
    tree = build_tree([[1, 2], [3]], size_of)
    assert tree.nodes[0].size == 0
    assert tree.positions == 3


def test_media_stay_whole():
    tree = build_tree([[1, -3, 2], [1, -3, 4], [1, -2, 2]], size_of)
    assert tree.positions == 1 + 4 + 2 + 3 + 1


@given(sequences)
def test_every_sequence_is_a_path_and_every_prefix_is_there_once(paths):
    tree = build_tree(paths, size_of)
    for path, leaf in zip(paths, tree.leaves, strict=True):
        numbers = tree.path(leaf)
        assert [atom for number in numbers for atom in tree.nodes[number].atoms] == path
        depth = 0
        for number in numbers:
            assert tree.nodes[number].depth == depth
            depth += tree.nodes[number].size
    prefixes = {tuple(path[:end]) for path in paths for end in range(1, len(path) + 1)}
    assert tree.positions == sum(size_of(prefix[-1]) for prefix in prefixes)
    starts = [(tree.nodes[number].start, tree.nodes[number].size) for number in tree.order]
    assert [start for start, _ in starts] == [sum(size for _, size in starts[:index]) for index in range(len(starts))]


@given(sequences, st.integers(1, 30))
def test_blocks_ask_for_every_node_once_and_see_its_ancestors(paths, limit):
    tree = build_tree(paths, size_of)
    blocks = plan_blocks(tree, limit)
    asked = [number for block in blocks for number in block.queries]
    assert sorted(asked) == [number for number, node in enumerate(tree.nodes) if node.size]
    for block in blocks:
        for number in block.queries:
            ancestors = [step for step in tree.path(number) if tree.nodes[step].size]
            seen = [step for step in ancestors if step in {*block.prefix, *block.queries}]
            assert seen == ancestors
            assert set(block.prefix) <= set(ancestors)
        if block.chain:
            assert list(block.queries) == [step for step in tree.path(block.queries[-1]) if step in set(block.queries)]
        else:
            assert sum(tree.nodes[number].size for number in block.queries) <= limit


@given(sequences)
def test_counting_a_tree_gives_what_building_it_lays_out(paths):
    keyed = [[(tuple(path[: end + 1]), size_of(atom)) for end, atom in enumerate(path)] for path in paths]
    counted, tree = TreeSize(), build_tree(paths, size_of)
    for sequence in keyed:
        nodes = tree_nodes([sequence])
        expected = counted.tokens_with(nodes)
        counted.add(nodes)
        assert counted.tokens == expected
    seen = sum(node.size * node.depth + node.size * (node.size + 1) // 2 for node in tree.nodes)
    assert (counted.tokens, counted.pairs) == (tree.positions, seen)
