"""The question whose seven answers are the bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avem.evaluate.recognition.labels import PROMPTS, SPELLINGS
from avem.tools.ask.results import LABELS
from avem.tools.ask.settings import SLOT, AskOptions

NAME_TOKENS = 16
"""Longest reply in tokens where the emotion is read from a reply, as in `avem bench ravdess`."""


@dataclass(frozen=True, slots=True)
class EmotionQuestion:
    """A question, and the answers that stand for each emotion.

    An emotion's log-probability is that of the event "the reply begins with one of its answers". It is a sum over its
    answers, and not divided by their lengths: that would favour long words, whose later tokens follow from the first.
    """

    question: str
    answers: tuple[tuple[str, ...], ...]
    """Of each of `LABELS`."""

    @classmethod
    def of(cls, options: AskOptions) -> EmotionQuestion:
        """What the options ask for; without any, the question, nouns and adjectives of `avem bench ravdess`.

        Example:
            >>> EmotionQuestion.of(AskOptions(model="m")).answers[:2]
            (('happiness', 'happy'), ('sadness', 'sad'))
        """
        question = options.emotion_question or PROMPTS["audiovisual"]
        if options.emotion_answer is None:
            return cls(question, tuple(SPELLINGS[label] for label in LABELS))
        return cls(question, tuple((options.emotion_answer.replace(SLOT, label),) for label in LABELS))

    @property
    def flat(self) -> tuple[str, ...]:
        """All answers, emotion by emotion."""
        return tuple(answer for answers in self.answers for answer in answers)

    def pooled(self, logprobs: Sequence[float]) -> tuple[float, ...]:
        """Log-probability of each emotion from those of `flat`, in nats.

        Example:
            >>> two = EmotionQuestion("?", (("joy", "glad"),) + (("x",),) * 6)
            >>> round(two.pooled([-1.0, -1.0, *[-3.0] * 6])[0], 4)
            -0.3069
        """
        left = list(logprobs)
        found = []
        for answers in self.answers:
            own, left = left[: len(answers)], left[len(answers) :]
            found.append(float(np.logaddexp.reduce(own)))
        return tuple(found)
