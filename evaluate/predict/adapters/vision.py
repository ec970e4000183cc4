"""torchvision next to a build of torch that it was not made for: its transforms are plain Python and still work."""

from __future__ import annotations

from importlib import import_module

import torch

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
