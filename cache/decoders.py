"""Which decoder a stream was made with: an entry of its fingerprint, so that two never mix in one stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from avem.cache.records import StreamSpec
from avem.errors import FingerprintError

DECODER = "decoder"
"""Key among a fingerprint's `preprocessing`."""
OLD = "decord"
"""The decoder of streams from before there was a choice, whose fingerprints have no such entry."""


def without_decoder(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """The fingerprint as it was before there was a choice of decoders."""
    preprocessing = fingerprint.get("preprocessing")
    if not isinstance(preprocessing, Mapping):
        return dict(fingerprint)
    return {**fingerprint, "preprocessing": {name: v for name, v in preprocessing.items() if name != DECODER}}


def decoder_of(fingerprint: Mapping[str, Any]) -> str | None:
    """The decoder that a fingerprint names; empty in a stream from before, None where avem decoded nothing."""
    preprocessing = fingerprint.get("preprocessing")
    if not isinstance(preprocessing, Mapping):
        return None
    return str(preprocessing.get(DECODER, ""))


def with_decoder(fingerprint: Mapping[str, Any], decoder: str) -> dict[str, Any]:
    """The fingerprint of the same features made of clips that another decoder read."""
    return {**fingerprint, "preprocessing": {**fingerprint["preprocessing"], DECODER: decoder}}


def as_stored(spec: StreamSpec, there: StreamSpec, store: str) -> StreamSpec:
    """A stream to be written as the store names it, where the two differ in how they name the same decoder.

    Args:
        spec: What is to be written.
        there: What the store holds.
        store: Its name, for the message.

    Raises:
        FingerprintError: They were made alike but by two decoders.
    """
    if there.encoder != spec.encoder or without_decoder(there.fingerprint) != without_decoder(spec.fingerprint):
        return spec
    old, new = decoder_of(there.fingerprint), decoder_of(spec.fingerprint)
    if old == new or not new:
        return spec
    if old == "" and new == OLD:
        return replace(spec, fingerprint=there.fingerprint)
    if old == "":
        raise FingerprintError(
            f"The clips of {store} were decoded the old way (by decord's index, which takes wrong frames of some "
            f"files); make their {spec.kind} features new with `avem cache repair --redecode`, or add clips that are "
            "decoded alike with `--decoder decord`."
        )
    raise FingerprintError(
        f"The {spec.kind} features in {store} were decoded by {old} and not by {new}; give `--decoder {old}`, or "
        "extract into another store."
    )
