"""A survey on subtasks: annotators say whether the cue that a stress question names is in the clip."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from avem.errors import DataError
from avem.evaluate.emorealm.subtasks import HALLUCINATED, SPURIOUS
from avem.files import write_new
from avem.records import Question
from avem.tools.prefs.survey.ballots import ATTENTION, PRETEST_SHARE, read_ballots
from avem.tools.prefs.survey.items import SurveyItem, opaque_id
from avem.tools.prefs.survey.pages import Published, SurveyOptions, publish

CHOICES = ("It is in the clip", "It is not in the clip")
LABELS = (SPURIOUS, HALLUCINATED)
"""What each choice makes of a question whose answer is no."""


def cue_items(questions: Sequence[Question], labels: dict[str, str]) -> list[SurveyItem]:
    """One item a question that has a label; the model's label is what votes are compared with."""
    return [
        SurveyItem(
            opaque_id(question.id, "cue"),
            question.task,
            question.video,
            question.question,
            "",
            f"Is the {'sound' if question.task.endswith('audio') else 'sight'} that this question names in the clip?",
            CHOICES,
            LABELS.index(labels[question.id]),
            question.id,
        )
        for question in questions
        if labels.get(question.id) in LABELS
    ]


def make_cue_survey(questions: Sequence[Question], labels: dict[str, str], options: SurveyOptions) -> Published:
    """Write a survey on labels.

    Raises:
        DataError: No question has a label.
    """
    items = cue_items(questions, labels)
    if not items:
        raise DataError("No question has a label to check; label them first with `avem emorealm subtasks`.")
    rng = np.random.default_rng(options.seed)
    picked = sorted(rng.permutation(len(items))[: options.sample].tolist())
    return publish([[items[number]] for number in picked], options, "subtasks", rng, [options.source])


def write_voted_labels(
    survey: Path, results: Iterable[Path], out: Path, attention: float = ATTENTION, pretest: float = PRETEST_SHARE
) -> int:
    """Write the labels that most annotators give, as a side file for `--subtasks`; ties are left out.

    Returns:
        How many were written.

    Raises:
        DataError: The folder is another kind of survey.
    """
    ballots = read_ballots(survey, results, attention, pretest)
    if ballots.key.get("kind") != "subtasks":
        raise DataError(f"{survey} is not a survey on subtasks; `avem emorealm subtasks --survey` makes one.")
    lines = []
    for name, votes in ballots.by_item.items():
        (choice, most), *others = Counter(vote.choice for vote in votes).most_common()
        if choice in range(len(LABELS)) and (not others or others[0][1] < most):
            label = {"id": ballots.items[name]["source"], "subtask": LABELS[choice]}
            lines.append({**label, "labelled_by": "survey", "votes": len(votes), "agree": most})
    write_new(out, "".join(json.dumps(line) + "\n" for line in lines))
    return len(lines)
