"""EmoReAlM (section 3): questions in, one number per task out, for answers of any model.

Example:
    >>> from avem.evaluate import emorealm
    >>> question = {"id": "1", "video": "1.mp4", "task": "modality_agreement", "question": "Do they agree?",
    ...             "choices": ["(A) Yes", "(B) No"], "answer": "A"}
    >>> emorealm.score([question], {"1": "(A) Yes"})["tasks"]["modality_agreement"]["accuracy"]
    100.0
"""

from avem.evaluate.emorealm.questions import read_questions, to_question
from avem.evaluate.emorealm.scoring import score, score_letters, score_outcomes

__all__ = ["read_questions", "score", "score_letters", "score_outcomes", "to_question"]
