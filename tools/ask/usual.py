"""What a model is asked where no question is given: the question that it was made for, and why it is that one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from avem.tools.ask.settings import QUESTION, AskOptions
from avem.tools.ask.worth.history import History

NOT_GIVEN = "No question was given, so it is asked {}."
IN_FIELD = "The question in the field is {}."
OF_KIT = "the one that {} names"
OF_ROWS = "the most frequent question of the rows that {} was trained on"
OF_AVEM = "the one that avem asks any model"


def with_usual_question(
    options: AskOptions, questions: Sequence[str] = (), sentence: str = NOT_GIVEN
) -> tuple[AskOptions, tuple[str, ...]]:
    """The options with the question that suits the model, and a sentence that says why it is asked.

    That is the question of an `ask.json`, else the most frequent one of the rows that the model was trained on, else
    `avem.tools.ask.settings.QUESTION`. Where questions are given, nothing changes and nothing is said.

    Args:
        options: As `with_kit` completes them.
        questions: What is asked, as far as it is given.
        sentence: What is said, with a slot for which question it is.
    """
    if questions:
        return options, ()
    if options.question_of:
        return options, (sentence.format(OF_KIT.format(options.question_of)),)
    if options.endpoint is None and options.question == QUESTION:
        history = History.of(options.model)
        if history.usual:
            counts = f" ({history.usual_count})" if history.usual_count else ""
            return replace(options, question=history.usual), (sentence.format(OF_ROWS.format(options.model) + counts),)
    return options, (sentence.format(OF_AVEM),)
