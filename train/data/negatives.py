"""Which clip stands in as a row's rejected input (Eq. 5): mined negatives, matched so that clips serve each other.

Where two clips are each other's negative, the media prefix of one clip's own questions is the prefix that the other
clip's rejected input needs, so a pair in one micro-batch computes it once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from avem.seeds import draw
from avem.train.packing.matching import match, pair_weights


def choose_negatives(
    clips: Sequence[int], kinds: Sequence[str], tables: Mapping[str, npt.NDArray[np.int32]], seed: int
) -> list[int]:
    """The clip that replaces each row's input.

    Args:
        clips: Store row of each training row's clip.
        kinds: Which table each training row draws from.
        tables: Mined negatives of every kind, [clips, K], -1 where there is none.
        seed: Decides among equals.

    Returns:
        A store row for each training row, -1 where its clip has no negative. It is the clip's matched partner where
        that is among the row's mined negatives, and otherwise one of these drawn from the seed.
    """
    candidates = [[int(b) for b in tables[kind][clip] if b >= 0] for clip, kind in zip(clips, kinds, strict=True)]
    own = set(clips)
    links = ((clip, b) for clip, row in zip(clips, candidates, strict=True) for b in row if b in own)
    partner = match(pair_weights(links), seed)
    chosen = []
    for clip, kind, row in zip(clips, kinds, candidates, strict=True):
        if not row:
            chosen.append(-1)
        elif partner.get(clip) in row:
            chosen.append(partner[clip])
        else:
            chosen.append(row[draw(seed, clip, kind, choices=len(row))])
    return chosen


def draw_negatives(
    row_ids: Sequence[str],
    clips: Sequence[int],
    kinds: Sequence[str],
    tables: Mapping[str, npt.NDArray[np.int32]],
    seed: int,
) -> list[int]:
    """One of its clip's mined negatives for each row, drawn alone, whatever other rows have.

    Args:
        row_ids: Names of the training rows; two rows of one clip draw apart.
        clips: As in `choose_negatives`.
        kinds: As there.
        tables: As there.
        seed: What is drawn from.

    Returns:
        A store row for each training row, -1 where its clip has no negative.
    """
    chosen = []
    for row_id, clip, kind in zip(row_ids, clips, kinds, strict=True):
        candidates = [int(b) for b in tables[kind][clip] if b >= 0]
        chosen.append(candidates[draw(seed, "negative", row_id, choices=len(candidates))] if candidates else -1)
    return chosen
