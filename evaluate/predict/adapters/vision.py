"""torchvision beside a torch that it was not built for: its transforms are Python alone, and work all the same."""

from __future__ import annotations

from importlib import import_module

import torch

UNGUARDED = ("nms", "qnms")
"""Operators of object detection that torchvision takes for granted when it is imported; it looks for all others."""
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def ready_torchvision() -> None:
    """Import torchvision, for the video processors of transformers.

    Its compiled operators load only beside the build of torch that they were made for: PyPI's wheel, made for CUDA,
    does not load them beside a CPU build of torch, and then fails on import. Here the two names that it misses are
    declared, with nothing behind them: calling them still fails, but resizing and normalising need no operator.

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
