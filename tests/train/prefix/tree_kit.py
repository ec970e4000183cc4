"""Random prefix trees."""

from __future__ import annotations

import random

from avem.train.prefix.tree import PrefixTree, build_tree


def random_tree(chance: random.Random, longest: int) -> PrefixTree:
    """A tree of a few sequences that leave a common one at random places; some leave it again from a branch."""
    trunk = [chance.randrange(3) for _ in range(chance.randint(1, longest))]
    paths = [trunk]
    for number in range(chance.randint(0, 6)):
        stem = chance.choice(paths)
        own = [chance.randrange(3) for _ in range(chance.randint(1, 1 + longest // 3))]
        paths.append([*stem[: chance.randint(0, len(stem))], 10 + number, *own])
    return build_tree(paths, lambda _: 1)
