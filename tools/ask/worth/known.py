"""What is known besides the answer, for a model that reads features: its training, and the words that it lacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from avem.tools.ask.emotions import EmotionQuestion
from avem.tools.ask.results import Known

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from avem.cache import FeatureStore
    from avem.tools.ask.worth.history import History


def known_of(
    digest: str,
    stores: Iterable[FeatureStore],
    history: History,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    bars: EmotionQuestion,
) -> Known:
    """What is known of a clip, of a model and of what it is asked.

    Args:
        digest: SHA-256 of the clip's media file.
        stores: Where its label may be, the first one that has it counts.
        history: What the model was trained on.
        tokenizer: The model's.
        questions: What is asked.
        bars: What the seven bars answer.
    """
    label, place = label_of(digest, [*stores, *history.stores.values()])
    learnt = history.learnt_from(digest)
    missing = {question: unknown_words(tokenizer, question) for question in dict.fromkeys([*questions, bars.question])}
    return Known(
        label,
        place,
        learnt.trained,
        learnt.detail,
        {question: words for question, words in missing.items() if words},
        bars.question.strip() in history.questions if history.known else None,
        words_that_count(tokenizer, bars),
        next((question for question, _ in history.questions.most_common(1)), ""),
    )


def words_that_count(tokenizer: PreTrainedTokenizerBase, bars: EmotionQuestion) -> tuple[str, ...]:
    """Words of the bars' answers that a model has no token for, of emotions none of whose answers it knows.

    An emotion's bar is a sum over its answers. So a model that knows "sadness" and not "sad" can show it.

    Args:
        tokenizer: The model's.
        bars: What the bars answer.
    """
    lacked = ([unknown_words(tokenizer, answer) for answer in answers] for answers in bars.answers)
    return tuple(dict.fromkeys(word for words in lacked if all(words) for each in words for word in each))


def label_of(digest: str, stores: Iterable[FeatureStore]) -> tuple[str, str]:
    """A clip's emotion label, and the store that has it; empty where none has.

    Args:
        digest: SHA-256 of its media file.
        stores: Where it is looked for, in order.
    """
    for store in stores:
        table = store.columns(["sha256", "emotion"])
        labels = [
            label
            for sha256, label in zip(table["sha256"].to_pylist(), table["emotion"].to_pylist(), strict=True)
            if sha256 == digest and label
        ]
        if len(set(labels)) == 1:
            return str(labels[0]), store.location.url
    return "", ""


def unknown_words(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[str, ...]:
    """Words of a text that a tokenizer has no token for, without repetition; marks are left out.

    Tokenizers that fall back on bytes know every word. Of one that can't say where its tokens stand, nothing is known.

    Args:
        tokenizer: Of a model.
        text: A question or an answer.
    """
    unknown = tokenizer.unk_token_id
    if unknown is None or not tokenizer.is_fast:
        return ()
    made = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = zip(made["input_ids"], made["offset_mapping"], strict=True)
    words = (text[start:end].strip() for token, (start, end) in spans if token == unknown)
    return tuple(dict.fromkeys(word for word in words if any(sign.isalnum() for sign in word)))
