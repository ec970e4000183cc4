"""transformers next to a torchvision that does not fit this torch: made ready, or put aside, before it is imported.

transformers imports torchvision wherever it is installed, also in models that show no pictures, and `import peft`
imports these. PyPI's torchvision beside a CPU build of torch raises at its import, which then ends as a
`ModuleNotFoundError` about some language model. Packages of avem that import transformers call `ready_transformers`
first.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from importlib.util import find_spec

logger = logging.getLogger(__name__)

UNGUARDED = ("nms", "qnms")
"""Operators of object detection that torchvision expects when it is imported; it checks for all others."""
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def ready_torchvision() -> None:
    """Import torchvision, for the video processors of transformers.

    Its compiled operators load only with the build of torch that they were made for. PyPI's wheel is made for CUDA:
    with a CPU build of torch it does not load them, and the import fails. This declares the two missing names without
    an implementation: calling them still fails, but resizing and normalising need no operator.

    Raises:
        ImportError: It is not installed, or does not fit this torch for another reason.
    """
    import torch

    try:
        import_module("torchvision")
        return
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise ImportError(f"torchvision does not fit torch {torch.__version__}: {error}") from error
    for name in UNGUARDED:
        torch.library.define(f"torchvision::{name}", SCHEMA)
    try:
        import_module("torchvision")
    except RuntimeError as error:
        raise ImportError(f"torchvision does not fit torch {torch.__version__}: {error}") from error


def ready_transformers() -> None:
    """See to it that transformers can be imported whatever torchvision is installed; to be called before that.

    A torchvision that can't be imported is hidden from this process: for transformers it is then not installed, so
    that only models that need it say so. bitsandbytes, which peft imports where it is installed, warns of a faster
    kernel for CPUs that it has not found; what it warns of concerns 4-bit weights alone, which avem refuses on a CPU.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if "torchvision" in sys.modules or find_spec("torchvision") is None:
        return
    try:
        ready_torchvision()
    except Exception as error:  # noqa: BLE001 - whatever a broken package raises, training does not need it
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # type: ignore[assignment]
        logger.warning(
            "torchvision can't be imported and is left out: %s", (str(error) or type(error).__name__).splitlines()[0]
        )
