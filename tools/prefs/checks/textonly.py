"""How far text alone tells a chosen answer from a rejected one: a bag of words, evaluated on held-out clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, diags
from sklearn.feature_extraction import FeatureHasher
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from avem.records import PreferenceRow
from avem.tools.prefs.checks.lexicon import words_of
from avem.tools.prefs.checks.report import Separation
from avem.tools.prefs.formats import rejected_answers

SAMPLED_ROWS = 4000
"""Rows looked at; more would not change the second digit."""
FOLDS = 5
BUCKETS = 1 << 13
VERDICTS = frozenset({"yes", "no"})


def separation(rows: Sequence[PreferenceRow], seed: int = 0, sample: int = SAMPLED_ROWS) -> list[Separation]:
    """Fit a logistic regression on words to tell chosen from rejected, cross-validated over clips.

    Both answers stand with the same question, so its words alone can't help; the words of the answers can, and so can a
    leading yes or no together with the words of the question.

    Args:
        rows: Preference rows.
        seed: Of the sample and of the sides of the pairs.
        sample: Most rows that are looked at.

    Returns:
        One result a kind of rejected answer, in the order of the fields; empty with fewer than ten clips.
    """
    rng = np.random.default_rng(seed)
    picked = [rows[index] for index in sorted(rng.permutation(len(rows))[:sample].tolist())]
    kinds: dict[str, list[tuple[PreferenceRow, str]]] = {}
    for row in picked:
        for kind, answer in rejected_answers(row):
            kinds.setdefault(kind, []).append((row, answer))
    found = []
    for kind, pairs in kinds.items():
        clips = np.unique([row.clip_id for row, _ in pairs], return_inverse=True)[1]
        if clips.max() + 1 < 2 * FOLDS:
            continue
        with threadpool_limits(1):  # the matrices are small: more threads only wait for each other
            found.append(Separation(kind, len(pairs), _ranked_right(pairs, clips, rng)))
    return found


def _ranked_right(
    pairs: Sequence[tuple[PreferenceRow, str]], clips: npt.NDArray[np.int64], rng: np.random.Generator
) -> float:
    hasher = FeatureHasher(BUCKETS, input_type="string", alternate_sign=False)
    chosen = hasher.transform(_features(row.question, row.chosen) for row, _ in pairs)
    rejected = hasher.transform(_features(row.question, answer) for row, answer in pairs)
    side = rng.choice([-1.0, 1.0], size=len(pairs))
    difference = csr_matrix(diags(side) @ (chosen - rejected))
    right = 0.0
    for train, test in GroupKFold(FOLDS).split(difference, groups=clips):
        if len(set(side[train])) < 2:
            return 0.5
        model = LogisticRegression(fit_intercept=False, C=1.0, max_iter=200).fit(difference[train], side[train])
        margin = model.decision_function(difference[test]) * side[test]
        right += float((margin > 0).sum()) + 0.5 * float((margin == 0).sum())
    return right / len(pairs)


def _features(question: str, answer: str) -> list[str]:
    words = words_of(answer)
    verdict = words[0] if words and words[0] in VERDICTS else ""
    crossed = [f"{verdict}|{word}" for word in words_of(question)] if verdict else []
    return [*words, *crossed]
