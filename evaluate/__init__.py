"""Evaluation: questions in, scored answers, numbers with their uncertainty, and a report out.

Heavy parts load when first used.

Example:
    >>> from avem.evaluate import emorealm
    >>> question = {"id": "1", "video": "1.mp4", "task": "modality_agreement", "question": "Do they agree?",
    ...             "choices": ["(A) Yes", "(B) No"], "answer": "A"}
    >>> emorealm.score([question], {"1": "(A) Yes"})["tasks"]["modality_agreement"]["accuracy"]
    100.0
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avem.evaluate import emorealm
    from avem.evaluate.bench import bench_emorealm
    from avem.evaluate.emorealm.results import BenchResult
    from avem.evaluate.report.bench import write_report

__all__ = ["BenchResult", "bench_emorealm", "emorealm", "write_report"]

_HOMES = {"BenchResult": "emorealm.results", "bench_emorealm": "bench", "write_report": "report.bench"}


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name when the name is first used."""
    if name == "emorealm":
        return import_module("avem.evaluate.emorealm")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"avem.evaluate.{_HOMES[name]}"), name)
