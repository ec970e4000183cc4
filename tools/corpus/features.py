"""Features of a generated corpus, all of them or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from avem.errors import DataError
from avem.extract import ExtractOptions, extract
from avem.tools.corpus.build import Corpus


def extract_corpus(corpus: Corpus, cache: Path, options: ExtractOptions) -> None:
    """Extract every clip of a corpus; those that failed before are tried again.

    Args:
        corpus: The corpus. avem drew its clips, so that each can be decoded.
        cache: The store to make.
        options: How; what is there of the same options stays.

    Raises:
        DataError: A clip failed, as when a decoder can't start; the store keeps the others.
    """
    report = extract(corpus.root, cache, replace(options, retry_failed=True))
    if report.failures:
        first = report.failures[0]
        raise DataError(
            f"{report.failed_clips} of the {report.clips} clips in {corpus.root} failed, {first.clip_id} because "
            f"{first.reason}; run the same command again."
        )
