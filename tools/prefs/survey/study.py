"""A user study of descriptions by several models (E.4, Fig. 10, Tables 4 and 16).

Annotators see a clip and every model's description of it, unnamed and in an order drawn for each clip. They choose
the best account of the emotion, the best link between emotion and cues, and the one that contradicts the clip most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from avem.errors import DataError, SettingError
from avem.evaluate.bootstrap import RESAMPLES, mean_intervals
from avem.evaluate.paper import facts
from avem.evaluate.predict.answers import read_answers
from avem.evaluate.sheets import Sheet
from avem.tools.prefs.survey.ballots import ATTENTION, PRETEST_SHARE, Vote, agreement, read_ballots
from avem.tools.prefs.survey.items import NO_ANSWER, SurveyItem, opaque_id
from avem.tools.prefs.survey.pages import Published, SurveyOptions, publish

CRITERIA = {
    "best_emotion": ("Emotion", "Which description tells best what the person feels?"),
    "best_association": ("Association", "Which description links the feeling best to what is seen and heard?"),
    "most_inconsistent": ("Inconsistent", "Which description contradicts the clip most, or names what is not there?"),
}
"""Criterion to its column and its question, in Table 16's order."""

LEAST_MODELS = 2


@dataclass(frozen=True, slots=True)
class Share:
    """How often a model's description was chosen, in percent, with its 95 % interval over annotators."""

    model: str
    criterion: str
    value: float
    low: float | None
    high: float | None
    votes: int


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What a user study came to."""

    shares: tuple[Share, ...]
    alpha: dict[str, float | None]
    """Criterion to Krippendorff's alpha of the chosen models; None where it is not defined."""
    clips: int
    passed: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """The models, in the study's order."""
        return tuple(dict.fromkeys(share.model for share in self.shares))

    def sheet(self) -> Sheet:
        """One row a model: the share of each criterion with its interval; the last row has the agreement."""
        by = {(share.model, share.criterion): share for share in self.shares}
        rows, records = [], []
        for model in self.models:
            own = [by[model, criterion] for criterion in CRITERIA]
            rows.append((model, *map(_cell, own)))
            record: dict[str, object] = {"model": model}
            for share in own:
                record |= {share.criterion: share.value, f"{share.criterion}_low": share.low}
                record |= {f"{share.criterion}_high": share.high, f"{share.criterion}_votes": share.votes}
            records.append(record)
        alpha = ["-" if value is None else f"{value:.3f}" for value in self.alpha.values()]
        rows.append(("Krippendorff's alpha", *alpha))
        title = f"Chosen by {len(self.passed)} annotators on {self.clips} clips, percent [95 % interval]"
        note = f"Paper, Table 16 (40 annotators): {_paper_rows()}."
        return Sheet(title, ("model", *(name for name, _ in CRITERIA.values())), tuple(rows), tuple(records), note)


def _cell(share: Share) -> str:
    return f"{share.value:.1f}" + (f" [{share.low:.1f}, {share.high:.1f}]" if share.low is not None else "")


def _paper_rows() -> str:
    return "; ".join(f"{row['model']} {' / '.join(row[name] for name in CRITERIA)}" for row in facts(16))


def read_descriptions(named: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read several models' descriptions.

    Args:
        named: `NAME=FILE` or a file, whose stem is then the name; see `avem.evaluate.predict.answers.read_answers`.

    Returns:
        Model to clip id to description.

    Raises:
        SettingError: Fewer than two models are given, or a name occurs twice.
        MissingFileError: A file is not there.
        DataError: A file holds no descriptions.
    """
    found: dict[str, dict[str, str]] = {}
    for given in named:
        name, mark, path = given.partition("=")
        name, path = (name, path) if mark else (Path(given).stem, given)
        if name in found:
            raise SettingError(f"Two models are called {name}; name them as NAME=FILE.")
        found[name] = {key: text.strip() for key, text in read_answers(path).items() if text.strip()}
    if len(found) < LEAST_MODELS:
        raise SettingError("A user study compares descriptions; give those of two models or more.")
    return found


def study_blocks(
    descriptions: Mapping[str, Mapping[str, str]], sample: int | None, rng: np.random.Generator, suffix: str = ".mp4"
) -> list[list[SurveyItem]]:
    """The items of a study: a block of three questions on each clip that all models describe.

    Args:
        descriptions: Model to clip id to description.
        sample: At most so many clips.
        rng: Draws the clips and the order of descriptions.
        suffix: What is added to a clip id without suffix to get its file.

    Raises:
        DataError: No clip is described by all models.
    """
    shared = sorted(set.intersection(*(set(own) for own in descriptions.values())))
    if not shared:
        raise DataError("No clip is described by all models; compare the ids of the files.")
    picked = sorted(rng.permutation(len(shared))[:sample].tolist())
    models = list(descriptions)
    blocks = []
    for number in picked:
        clip = shared[number]
        order = [models[position] for position in rng.permutation(len(models)).tolist()]
        video = clip if Path(clip).suffix else f"{clip}{suffix}"
        blocks.append(
            [
                SurveyItem(
                    opaque_id(clip, criterion),
                    criterion,
                    video,
                    "Please watch the clip and read all descriptions.",
                    "",
                    ask,
                    tuple(descriptions[model][clip] for model in order),
                    NO_ANSWER,
                    clip,
                    models=tuple(order),
                    flags=False,
                )
                for criterion, (_, ask) in CRITERIA.items()
            ]
        )
    return blocks


def make_study(named: Sequence[str], options: SurveyOptions, suffix: str = ".mp4") -> Published:
    """Write a study's folder; see `avem.tools.prefs.survey.pages.publish`.

    Args:
        named: See `read_descriptions`.
        options: Where it goes, and how it is cut into booklets; `source` is not used.
        suffix: What is added to a clip id without suffix to get its file.
    """
    rng = np.random.default_rng(options.seed)
    blocks = study_blocks(read_descriptions(named), options.sample, rng, suffix)
    reads = [Path(given.rpartition("=")[2]) for given in named]
    return publish(blocks, replace(options, source=reads[0]), "study", rng, reads)


def read_study(
    survey: Path,
    results: Iterable[Path],
    attention: float = ATTENTION,
    pretest: float = PRETEST_SHARE,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> StudyResult:
    """Count how often each model was chosen.

    Args:
        survey: The study's folder.
        results: Files that annotators saved.
        attention: Share of the attention checks that an annotator has to pass.
        pretest: Share of the pre-test that an annotator has to get right.
        resamples: Bootstrap resamples over annotators, who are what varies between two studies.
        seed: Seed of the bootstrap.

    Raises:
        DataError: The folder is another kind of survey, or nobody's votes count.
    """
    ballots = read_ballots(survey, results, attention, pretest)
    if ballots.key.get("kind") != "study":
        raise DataError(f"{survey} is not a user study; `avem prefs votes` counts the votes of other surveys.")
    items = ballots.items
    models = next(item["models"] for item in items.values() if item.get("models"))
    order = sorted(models)
    shares, alpha = [], {}
    for criterion in CRITERIA:
        votes = [
            replace(vote, choice=order.index(items[name]["models"][vote.choice]))
            for name, cast in ballots.by_item.items()
            if items[name]["group"] == criterion
            for vote in cast
            if 0 <= vote.choice < len(items[name]["models"])
        ]
        if not votes:
            raise DataError("No annotator's votes count; see who failed the checks, or lower --attention.")
        shares += _shares(votes, order, criterion, resamples, seed)
        alpha[criterion] = agreement(votes)
    clips = len({items[name]["source"] for name in ballots.by_item})
    return StudyResult(tuple(shares), alpha, clips, tuple(sorted(ballots.passed)), tuple(sorted(ballots.failed)))


def _shares(votes: Sequence[Vote], models: Sequence[str], criterion: str, resamples: int, seed: int) -> list[Share]:
    chosen = np.array([[100.0 * (vote.choice == number) for number in range(len(models))] for vote in votes])
    raters = [vote.annotator for vote in votes]
    counts = Counter(vote.choice for vote in votes)
    enough = resamples and len(set(raters)) > 1
    edges = mean_intervals(chosen, raters, resamples, seed) if enough else [(None, None)] * len(models)
    return [
        Share(model, criterion, float(value), low, high, counts[number])
        for number, (model, value, (low, high)) in enumerate(zip(models, chosen.mean(axis=0), edges, strict=True))
    ]
