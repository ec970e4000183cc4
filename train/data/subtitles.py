"""Subtitles of a store's clips, as prompts show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from avem.errors import SettingError

if TYPE_CHECKING:
    from avem.cache import FeatureStore
    from avem.train.families.base import FamilyModel


def shown_subtitles(model: FamilyModel, store: FeatureStore) -> Callable[[int], str | None]:
    """The subtitles of a store for a model's prompts.

    Args:
        model: Its prompts are to hold them.
        store: Whose clips.

    Returns:
        From a row to the text; None for a clip that has no subtitle, or in which nothing is said.

    Raises:
        SettingError: The model's family has no room for subtitles, or no clip of the store has one.
    """
    if not getattr(model, "takes_subtitles", False):
        raise SettingError(f"A {model.family} model's prompts have no room for subtitles; leave them out.")
    texts = store.columns(["subtitle"])["subtitle"].combine_chunks()
    if not pc.any(pc.not_equal(pc.fill_null(texts, ""), "")).as_py():
        raise SettingError(
            f"No clip of {store.location.url} has a subtitle; put .srt files beside the clips and run `avem extract` "
            "again, or transcribe them with `avem cache subtitles`, or leave subtitles out."
        )
    return lambda row: texts[row].as_py() or None
