"""The proof's raw results as one small file: which question every run answered rightly, and its log-odds of Yes.

Everything in `docs/proof.md` that is measured on answers can be computed again from it. `questions` has an entry
`[clip, cell]` for every question, with `clips` and `cells` naming both. `right` has for every run and seed a bit for
every question, in that order, as hexadecimal digits, most significant bit first. `odds` has for every run and seed the
log-odds of Yes of every question answered by yes or no, in that order, packed by `odds.pack`; results from before they
were kept have none, and no threshold-free measures.

Two records of the same ground can be joined, so that runs can be made in parts, or on several machines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from avem.errors import DataError
from avem.evaluate.bootstrap import Floats
from avem.evaluate.emorealm.detection import Odds
from avem.evaluate.emorealm.metrics import Outcome
from avem.evaluate.emorealm.results import read_result
from avem.files import write_atomic
from avem.reading import read_json
from avem.tools.project.proof.claims import BASE
from avem.tools.project.proof.results.counts import CELLS, cell_of, measures
from avem.tools.project.proof.results.odds import AUC_RESAMPLES, Values, detected, pack, unpack, yes_or_no

FORMAT = "avem-proof-2"

Bits = NDArray[np.bool_]
BY_RUN = ("named", "rewards", "cost")
"""What is kept with the answers for each run and seed."""
ROUNDED = 0.002
"""Share of answers in which one base may differ between two machines, where options are nearly as likely."""


class Answered(NamedTuple):
    """What one run with one seed answered, in the benchmark's order."""

    outcomes: Sequence[Outcome]
    odds: Sequence[Odds]
    """Of the questions answered by yes or no."""

    @classmethod
    def of(cls, folder: Path) -> Answered:
        """Read the answers that a bench left in its folder."""
        result = read_result(folder)
        return cls(result.outcomes("likelihood"), result.log_odds("likelihood"))


class Record:
    """Right and wrong answers of many runs to the same questions.

    Args:
        clips: Name of every clip.
        questions: int64 [Q, 2]: index into `clips`, index into `CELLS`.
        right: Run to seed to bool [Q].
        odds: Run to seed to float16 [Y], log-odds of Yes in nats of the questions answered by yes or no.
        about: Whatever else is worth keeping: settings, times, numbers of the probes.
    """

    def __init__(
        self,
        clips: Sequence[str],
        questions: NDArray[np.int64],
        right: Mapping[str, Mapping[int, Bits]],
        odds: Mapping[str, Mapping[int, Values]],
        about: Mapping[str, Any],
    ) -> None:
        self.clips, self.questions, self.right, self.odds = list(clips), questions, right, odds
        self.about = dict(about)

    @classmethod
    def of(cls, runs: Mapping[str, Mapping[int, Answered]], about: Mapping[str, Any]) -> Record:
        """Collect what runs answered; every run has to have been asked the same questions.

        Raises:
            DataError: Two runs answered different questions, or a yes-or-no question has no log-odds.
        """
        first = next(iter(next(iter(runs.values())).values())).outcomes
        ids = [outcome.question.id for outcome in first]
        clips, indices = np.unique([outcome.question.video for outcome in first], return_inverse=True)
        questions = np.column_stack([indices, [cell_of(outcome.question) for outcome in first]])
        asked = len(yes_or_no(questions))
        right: dict[str, dict[int, Bits]] = {}
        odds: dict[str, dict[int, Values]] = {}
        for run, seeds in runs.items():
            for seed, answered in seeds.items():
                if [outcome.question.id for outcome in answered.outcomes] != ids:
                    raise DataError(f"The run {run} with seed {seed} was asked other questions than the first.")
                if len(answered.odds) != asked:
                    raise DataError(
                        f"The run {run} with seed {seed} did not score every yes-or-no question; run it again."
                    )
                right.setdefault(run, {})[seed] = np.array([outcome.right for outcome in answered.outcomes])
                odds.setdefault(run, {})[seed] = np.array([one.value for one in answered.odds], dtype=np.float16)
        return cls(clips.tolist(), questions, right, odds, about)

    def seeds(self) -> dict[str, int]:
        """Run to how many of its seeds count: those before the first that other runs have and it has not."""
        order = sorted({seed for own in self.right.values() for seed in own})
        return {run: sum(1 for _ in takewhile(own.__contains__, order)) for run, own in self.right.items()}

    def passed_over(self) -> dict[str, list[int]]:
        """Run to those of its seeds that do not count."""
        counted = self.seeds()
        return {run: sorted(own)[counted[run] :] for run, own in self.right.items() if len(own) > counted[run]}

    def detected(
        self, resamples: int = AUC_RESAMPLES
    ) -> tuple[dict[str, dict[str, Floats]], dict[str, dict[str, Floats]]]:
        """Threshold-free measures of every run and their bootstrap, as of `odds.detected`."""
        counted = {run: count for run, count in self.seeds().items() if count and run in self.odds}
        odds = {run: self.odds[run] for run in counted}
        return detected(self.questions[yes_or_no(self.questions)], odds, counted, resamples)

    def levels(self) -> dict[str, dict[int, dict[str, float]]]:
        """Run to seed to every measure, of all seeds: also of runs that have not the first."""
        cells = self.questions[:, 1]
        asked = np.bincount(cells, minlength=len(CELLS)).astype(np.float64)
        every = {run: {seed: number for number, seed in enumerate(sorted(own))} for run, own in self.odds.items()}
        counts = {run: len(own) for run, own in every.items()}
        telling, _ = detected(self.questions[yes_or_no(self.questions)], self.odds, counts, resamples=1)
        found: dict[str, dict[int, dict[str, float]]] = {}
        for run, own in self.right.items():
            for seed, bits in own.items():
                right = np.bincount(cells, weights=bits, minlength=len(CELLS))
                levels = {name: float(value) for name, value in measures(np.stack([asked, right])).items()}
                for name, values in telling.get(run, {}).items():
                    levels[name] = float(values[every[run][seed]])
                found.setdefault(run, {})[seed] = levels
        return found

    def joined(self, other: Record) -> Record:
        """This record and the runs that another one has beside it.

        The base is one model, whatever seeds the runs from it have, and its answers say whether both were made on one
        ground. A run that both have is this one's: made again, it answers some questions differently, because training
        amplifies rounding.

        Raises:
            DataError: The other's questions, settings or base are different.
        """
        if self.clips != other.clips or not np.array_equal(self.questions, other.questions):
            raise DataError(
                "The two results are of different questions, so they can't be joined; give results of the same part."
            )
        if self.about.get("settings") != other.about.get("settings"):
            raise DataError("The two results are of runs with different settings, so they can't be joined.")
        if bool(self.odds) != bool(other.odds):
            raise DataError("One of the two results has no log-odds, as before they were kept; make its runs again.")
        own, its = self.right.get(BASE), other.right.get(BASE)
        if not own or not its:
            raise DataError("The two results have no base in common, so nothing shows that they share their ground.")
        differ = np.count_nonzero(own[min(own)] != its[min(its)])
        if differ > ROUNDED * len(self.questions):
            raise DataError(
                f"The two results have different answers of their base, to {differ} of {len(self.questions)} "
                "questions: they stand on different grounds (`avem proof run --ground`)."
            )
        runs = list(dict.fromkeys((*self.right, *other.right)))
        right = {run: {**other.right.get(run, {}), **self.right.get(run, {})} for run in runs}
        odds = {run: {**other.odds.get(run, {}), **self.odds.get(run, {})} for run in runs} if self.odds else {}
        about = {**other.about, **self.about}
        for name in BY_RUN:
            if name in self.about and name in other.about:
                kept, added = self.about[name], other.about[name]
                with intact(f"The results' `{name}`", "run `avem proof run` again"):
                    about[name] = {run: {**added.get(run, {}), **kept.get(run, {})} for run in {**kept, **added}}
        return Record(self.clips, self.questions, right, odds, about)

    def counts(self) -> dict[str, Floats]:
        """Run to float64 [seeds, clips, 2, len(CELLS)], questions and right answers; some runs have more seeds.

        The first seeds of all runs are the same: a run that is missing one of them ends before it.
        """
        counted = self.seeds()
        asked = np.zeros((len(self.clips), len(CELLS)))
        cells = tuple(self.questions.T)
        np.add.at(asked, cells, 1)
        found = {}
        for run, own in self.right.items():
            stacked = []
            for seed in sorted(own)[: counted[run]]:
                right = np.zeros_like(asked)
                np.add.at(right, cells, own[seed])
                stacked.append(np.stack([asked, right], axis=1))
            if stacked:
                found[run] = np.stack(stacked)
        return found

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        right = {
            run: {str(seed): np.packbits(bits).tobytes().hex() for seed, bits in own.items()}
            for run, own in self.right.items()
        }
        odds = {run: {str(seed): pack(values) for seed, values in own.items()} for run, own in self.odds.items()}
        content = {
            "format": FORMAT,
            **self.about,
            "clips": self.clips,
            "cells": list(CELLS),
            "questions": self.questions.tolist(),
            "right": right,
            **({"odds": odds} if odds else {}),
        }
        lines = [f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in content.items()]
        write_atomic(path, "{" + ",\n".join(lines) + "}\n")

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read what `write` wrote.

        Raises:
            DataError: It is something else.
        """
        try:
            content = read_json(path, dict)
            if content.pop("format", None) != FORMAT or tuple(content.pop("cells", ())) != CELLS:
                raise ValueError("its format or its cells are others")
            clips, questions = content.pop("clips"), np.array(content.pop("questions"), dtype=np.int64)
            if questions.shape[1:] != (2,) or not (questions < (len(clips), len(CELLS))).all() or (questions < 0).any():
                raise ValueError("a question is of no clip or of no cell")
            right = {
                run: {int(seed): _bits(digits, len(questions)) for seed, digits in own.items()}
                for run, own in content.pop("right").items()
            }
            if not all(right.values()) or not right:
                raise ValueError("a run has no answers")
            asked = len(yes_or_no(questions))
            odds = {
                run: {int(seed): unpack(text, asked) for seed, text in own.items()}
                for run, own in content.pop("odds", {}).items()
            }
            if odds and {run: set(own) for run, own in odds.items()} != {run: set(own) for run, own in right.items()}:
                raise ValueError("log-odds and answers are of different runs")
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise DataError(f"{path} holds no results of the proof ({error}); run `avem proof run`.") from error
        return cls(clips, questions, right, odds, content)


@contextmanager
def intact(what: str, remedy: str) -> Iterator[None]:
    """Read what another run kept; where its form is not the one written, say so in one sentence.

    Args:
        what: What is read, for the message.
        remedy: What to do about it.

    Raises:
        DataError: Something that was read is not there or of another type.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{what} is damaged ({error}); {remedy}.") from error


def is_record(path: Path) -> bool:
    """Whether a file begins as `Record.write` begins one."""
    start = f'{{"format": "{FORMAT}"'.encode()
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(start)) == start


def _bits(digits: str, count: int) -> Bits:
    """The first bits of hexadecimal digits; ValueError where they are not as many."""
    packed = bytes.fromhex(digits)
    if len(packed) != (count + 7) // 8:
        raise ValueError(f"a run has {8 * len(packed)} answers, of {count} questions")
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8))[:count].astype(np.bool_)
