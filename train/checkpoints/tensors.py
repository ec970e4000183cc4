"""A checkpoint's tensors against a module's: compare names and shapes, then move them in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from avem.errors import CheckpointError
from avem.weights import read_tensors


def fill(
    module: Any,
    folder: Path,
    names: dict[str, str],
    device: str | torch.device,
    dtype: torch.dtype,
) -> None:
    """Move a checkpoint's tensors into a module whose parameters have no storage yet, one tensor at a time.

    Args:
        module: A model made under `init_empty_weights`, and found fitting by `check_shapes`.
        folder: The checkpoint.
        names: From the checkpoint's names to the module's; tensors of other names are left alone.
        device: Where the tensors go.
        dtype: Their number format.

    Raises:
        CheckpointError: A file is damaged.
    """
    found = {
        names[theirs]: tensor.to(device=device, dtype=dtype)
        for theirs, tensor in read_tensors(folder)
        if theirs in names
    }
    module.load_state_dict(found, strict=False, assign=True)
    module.language_model.tie_weights()
    module.to(device)


def check_shapes(
    module: Any,
    folder: Path,
    shapes: dict[str, tuple[int, ...]],
    names: dict[str, str],
    ignored: re.Pattern[str],
) -> None:
    """Refuse a checkpoint whose tensors are not those of a module.

    Args:
        module: A model; a tied output layer may be absent from the file.
        folder: The checkpoint, for the message.
        shapes: Of its tensors, by name.
        names: From the checkpoint's names to the module's.
        ignored: Names in the checkpoint that the module has no use for.

    Raises:
        CheckpointError: Tensors are missing, unknown or misshapen.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    tied = _tied_names(module)
    report_faults(
        folder,
        missing=[theirs for theirs, ours in names.items() if theirs not in shapes and ours not in tied],
        unknown=[theirs for theirs in shapes if theirs not in names and not ignored.match(theirs)],
        misshapen=[
            f"{theirs} is {list(shapes[theirs])}, not {list(expected[ours])}"
            for theirs, ours in names.items()
            if theirs in shapes and shapes[theirs] != expected[ours]
        ],
    )


def report_faults(where: Path, missing: list[str], unknown: list[str], misshapen: list[str]) -> None:
    """Raise one error that names what is wrong with a checkpoint, if anything is.

    Raises:
        CheckpointError: A list is not empty; at most five names of each are shown.
    """
    faults = [
        f"{title}: {'; '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
        for title, names in (("missing", missing), ("unknown", unknown), ("misshapen", misshapen))
        if names
    ]
    if faults:
        raise CheckpointError(
            f"The weights in {where} do not fit its config.json ({', '.join(faults)}); fetch the checkpoint again."
        )


def _tied_names(module: Any) -> set[str]:
    tied = module.language_model.config.tie_word_embeddings
    return {"language_model.lm_head.weight"} if tied else set()
