"""Subtitles of a store's clips, as prompts show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from avem.errors import PromptError, SettingError
from avem.guards.special_tokens import find_special, special_tokens

if TYPE_CHECKING:
    from avem.cache import FeatureStore
    from avem.train.families.base import FamilyModel


def shown_subtitles(model: FamilyModel, store: FeatureStore) -> Callable[[int], str | None]:
    """The subtitles of a store for a model's prompts.

    Args:
        model: Its prompts are to hold them.
        store: Whose clips.

    Returns:
        From a row to the text; None for a clip that has no subtitle, or in which nothing is said. It raises PromptError
        for a text with a special token; the message names the clip.

    Raises:
        SettingError: The model's family has no room for subtitles, or no clip of the store has one.
    """
    if not getattr(model, "takes_subtitles", False):
        raise SettingError(f"A {model.family} model's prompts have no room for subtitles; leave them out.")
    table = store.columns(["clip_id", "subtitle"])
    texts, special = table["subtitle"].combine_chunks(), special_tokens(model.tokenizer)
    if not pc.any(pc.not_equal(pc.fill_null(texts, ""), "")).as_py():
        raise SettingError(
            f"No clip of {store.location.url} has a subtitle; put .srt files beside the clips and run `avem extract` "
            "again, or transcribe them with `avem cache subtitles`, or leave subtitles out."
        )

    def subtitle_of(row: int) -> str | None:
        text: str = texts[row].as_py() or ""
        if found := find_special(text, special):
            raise PromptError(
                f"The subtitle of the clip {table['clip_id'][row]} holds {found!r}, a special token or placeholder and "
                "no text to the model; correct it where it comes from and enter it again."
            )
        return text or None

    return subtitle_of
