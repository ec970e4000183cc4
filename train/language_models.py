"""Language models from Hugging Face folders, hub ids and GGUF files, with every missing weight named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from avem.errors import CheckpointError
from avem.locate import locate_model
from avem.train.tensors import report_faults
from avem.train.tokenizers import load_tokenizer


def load_language_model(
    name_or_path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer.

    Args:
        name_or_path: A folder, a `.gguf` file, or a hub id such as `HuggingFaceTB/SmolLM2-135M`.
        device: Where the weights go.
        dtype: Their number format.

    Returns:
        The transformers model in evaluation mode, and the tokenizer.

    Raises:
        MissingFileError: There is no such model.
        CheckpointError: Its weights do not fit its configuration, or it is no causal language model.
    """
    path = locate_model(name_or_path, "--language-model")
    if path.suffix == ".gguf":
        return _load_gguf(path, device, dtype)
    try:
        with quiet_transformers():
            model, report = AutoModelForCausalLM.from_pretrained(
                path, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path} can't be loaded as a language model: {str(error).splitlines()[0]}") from error
    report_faults(
        path,
        missing=sorted(report["missing_keys"]),
        unknown=sorted(report["unexpected_keys"]),
        misshapen=[f"{name} is {list(file)}, not {list(wanted)}" for name, file, wanted in report["mismatched_keys"]],
    )
    return model.to(device).eval(), load_tokenizer(path)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' bars and reports off the terminal; faults in a checkpoint become errors here."""
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _load_gguf(path: Path, device: str | torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """Read a GGUF file; quantised weights are expanded to `dtype`."""
    try:
        with quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except ImportError as error:
        raise CheckpointError(
            "Reading GGUF files needs another package; install it with `pip install gguf`."
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} can't be loaded as a language model: {str(error).splitlines()[0]}") from error
    return model.to(device).eval(), tokenizer
