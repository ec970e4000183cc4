"""A random sample of a store's rows, for `avem cache verify --sample`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avem.errors import SettingError


@dataclass(frozen=True, slots=True)
class Sample:
    """How many of a stream's rows are looked at, and by which seed they are drawn.

    Raises:
        SettingError: A number makes no sense.
    """

    rows: int | None = None
    """Rows of each stream; None: `share` of them."""
    share: float = 1.0
    """Share of each stream's rows, above 0 and up to 1."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if (self.rows is not None and self.rows < 1) or not 0 < self.share <= 1 or self.seed < 0:
            raise SettingError(
                "A sample is at least one row, or more than 0% and at most 100%, by a seed of 0 or more."
            )

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> Sample:
        """Understand a number of rows, or a share in per cent.

        Raises:
            SettingError: It is neither.

        Example:
            >>> Sample.parse("1000").rows, Sample.parse("2.5%").share
            (1000, 0.025)
        """
        try:
            if text.endswith("%"):
                return cls(share=float(text[:-1]) / 100, seed=seed)
            return cls(rows=int(text), seed=seed)
        except ValueError as error:
            raise SettingError(f"--sample takes a number of rows or a share such as 1%, not {text!r}.") from error

    def choose(self, rows: npt.NDArray[np.int64], stream: str) -> npt.NDArray[np.int64]:
        """The sample among a stream's rows, ascending.

        Args:
            rows: Rows with features, int64 [n].
            stream: The stream's name; each stream has a sample of its own.
        """
        count = min(len(rows), math.ceil(self.share * len(rows)) if self.rows is None else self.rows)
        rng = np.random.default_rng([self.seed, *stream.encode()])
        chosen: npt.NDArray[np.int64] = np.sort(rng.choice(rows, count, replace=False)) if count else rows[:0]
        return chosen
