"""The proof's raw results as one small file: which question every run answered rightly.

Everything in `docs/proof.md` that counts answers can be computed again from it. `questions` has an entry
`[clip, cell]` for every question, with `clips` and `cells` naming both; `right` has for every run and seed a bit for
every question, in that order, as hexadecimal digits, most significant bit first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avem.errors import DataError
from avem.evaluate.bootstrap import Floats
from avem.evaluate.emorealm.metrics import Outcome
from avem.files import write_atomic
from avem.reading import read_json
from avem.tools.project.proof.counts import CELLS, cell_of

FORMAT = "avem-proof-1"

Bits = NDArray[np.bool_]


class Record:
    """Right and wrong answers of many runs to the same questions.

    Args:
        clips: Name of every clip.
        questions: int64 [Q, 2]: index into `clips`, index into `CELLS`.
        right: Run to seed to bool [Q].
        about: Whatever else is worth keeping: settings, times, numbers of the probes.
    """

    def __init__(
        self,
        clips: Sequence[str],
        questions: NDArray[np.int64],
        right: Mapping[str, Mapping[int, Bits]],
        about: Mapping[str, Any],
    ) -> None:
        self.clips, self.questions, self.right, self.about = list(clips), questions, right, dict(about)

    @classmethod
    def of(cls, runs: Mapping[str, Mapping[int, Sequence[Outcome]]], about: Mapping[str, Any]) -> Record:
        """Collect the outcomes of runs; every run has to have answered the same questions.

        Raises:
            DataError: Two runs answered different questions.
        """
        first = next(iter(next(iter(runs.values())).values()))
        ids = [outcome.question.id for outcome in first]
        clips, indices = np.unique([outcome.question.video for outcome in first], return_inverse=True)
        questions = np.column_stack([indices, [cell_of(outcome.question) for outcome in first]])
        right: dict[str, dict[int, Bits]] = {}
        for run, seeds in runs.items():
            for seed, outcomes in seeds.items():
                if [outcome.question.id for outcome in outcomes] != ids:
                    raise DataError(f"The run {run} with seed {seed} was asked other questions than the first.")
                right.setdefault(run, {})[seed] = np.array([outcome.right for outcome in outcomes])
        return cls(clips.tolist(), questions, right, about)

    def counts(self) -> dict[str, Floats]:
        """Run to float64 [seeds, clips, 2, len(CELLS)], questions and right answers; some runs have more seeds.

        The first seeds of all runs are the same: a run that is missing one of them ends before it.
        """
        order = sorted({seed for own in self.right.values() for seed in own})
        asked = np.zeros((len(self.clips), len(CELLS)))
        cells = tuple(self.questions.T)
        np.add.at(asked, cells, 1)
        found = {}
        for run, own in self.right.items():
            stacked = []
            for seed in takewhile(own.__contains__, order):
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
        content = {
            "format": FORMAT,
            **self.about,
            "clips": self.clips,
            "cells": list(CELLS),
            "questions": self.questions.tolist(),
            "right": right,
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
            if content.pop("format") != FORMAT or tuple(content.pop("cells")) != CELLS:
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
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} holds no results of the proof ({error}); run `avem proof run`.") from error
        return cls(clips, questions, right, content)


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
