"""Predictions for many questions: each distinct one is made once, and the answer log keeps it for the next run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from avem.evaluate.predict.clips import ClipPosition, single_positions
from avem.evaluate.predict.log import AnswerLog
from avem.evaluate.predict.predictor import Answer, Predictor
from avem.progress import stage
from avem.records import Question


def predict_all(
    predictor: Predictor,
    questions: Sequence[Question],
    positions: Mapping[str, ClipPosition],
    methods: Sequence[str],
    log: AnswerLog,
    name: str,
) -> dict[str, dict[str, list[Answer]]]:
    """Answer every question with every method. Predictions that the log already holds are not made again.

    Args:
        predictor: Makes the predictions.
        questions: The questions.
        positions: Question id to its clip; a clip in windows gets one prediction a window. Questions without a clip
            are answered without media alone.
        methods: Some of `avem.evaluate.emorealm.results.METHODS`; those that the predictor does not support are left
            out.
        log: Keeps every answer as it arrives.
        name: What the progress bar calls the model.

    Returns:
        Question id to method to answers: one, or one for each window in the order of time.
    """
    requests = [
        predictor.request(question, method, position)
        for method in methods
        for question in questions
        if method in predictor.methods and (method == "text_only" or question.id in positions)
        for position in ([None] if method == "text_only" else single_positions(positions[question.id]))
    ]
    missing = {request.key: request for request in requests if log.get(request.key) is None}
    with stage(f"bench {name}", len(missing), "answers") as bar:

        def keep(answers: Mapping[str, Answer]) -> None:
            log.append({key: answer.to_record(missing[key]) for key, answer in answers.items()})
            bar.advance(len(answers))

        failed = predictor.predict(list(missing.values()), keep)
    found: dict[str, dict[str, list[Answer]]] = defaultdict(dict)
    for request in requests:
        record = log.get(request.key)
        answer = (
            Answer(failed=failed.get(request.key, "there is no answer"))
            if record is None
            else Answer.from_record(record)
        )
        found[request.question.id].setdefault(request.method, []).append(answer)
    return found
