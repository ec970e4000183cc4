"""Language models from Hugging Face folders, hub ids and GGUF files, with every missing weight named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from io import StringIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

from avem.errors import AvemError, CheckpointError
from avem.guards.remote_code import NO_CODE, refuse_code
from avem.locate import locate_model
from avem.train.checkpoints.tensors import report_faults
from avem.train.model.tokenizers import load_tokenizer
from avem.weights import PICKLED, read_tensors, tensor_shapes

UNREADABLE = (
    AvemError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    StopIteration,
    SafetensorError,
    UnpicklingError,
    ArithmeticError,
)
"""What transformers and safetensors raise of a configuration of wrong types and of damaged weights."""


def load_language_model(
    name_or_path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer.

    Args:
        name_or_path: A folder, a hub id such as `HuggingFaceTB/SmolLM2-135M`, or a `.gguf` file, whose quantised
            weights are expanded to `dtype`.
        device: Where the weights go.
        dtype: Their number format.

    Returns:
        The transformers model in evaluation mode, and the tokenizer.

    Raises:
        MissingFileError: There is no such model.
        CheckpointError: Its weights do not fit its configuration, or it is not a causal language model.
    """
    path = locate_model(name_or_path, "--language-model")
    refuse_code(path)
    if (path / "config.json").is_file() and (converted := convert_language_model(path, device, dtype)) is not None:
        return converted, load_tokenizer(path)
    loader: Any = AutoModelForCausalLM  # whose annotations leave out `output_loading_info`
    folder, more = (path.parent, {"gguf_file": path.name}) if path.suffix == ".gguf" else (path, {})
    try:
        with quiet_transformers(), redirect_stderr(StringIO()) if more else nullcontext():  # GGUF's own progress bar
            model, report = loader.from_pretrained(
                folder, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **NO_CODE, **more
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, **NO_CODE, **more) if more else load_tokenizer(folder)
    except ImportError as error:
        raise CheckpointError(f"{path} needs a package that is not installed: {str(error).strip()}") from error
    except UnpicklingError as error:
        raise CheckpointError(PICKLED.format(path)) from error
    except AvemError:
        raise
    except Exception as error:  # a configuration of wrong types fails anywhere in transformers
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(f"{path} can't be loaded as a language model: {reason}") from error
    report_faults(
        path,
        missing=sorted(report["missing_keys"]),
        unknown=sorted(report["unexpected_keys"]),
        misshapen=[f"{name} is {list(file)}, not {list(wanted)}" for name, file, wanted in report["mismatched_keys"]],
    )
    if (
        getattr(model, "hf_quantizer", None) is not None
    ):  # the weights are expanded, so nothing but a note of where they come from stands against saving them
        model.hf_quantizer.remove_quantization_config(model)
    return model.to(device).eval(), tokenizer


def empty_language_model(folder: Path) -> tuple[Any, Any]:
    """A language model as its `config.json` says, without reading weights, and its tokenizer.

    Args:
        folder: A Hugging Face folder.

    Raises:
        CheckpointError: Its configuration or tokenizer can't be read.
    """
    refuse_code(folder)
    try:
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, **NO_CODE), **NO_CODE)
    except Exception as error:  # a configuration of wrong types fails anywhere in transformers
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"{folder} does not describe a language model: {reason}") from error
    return model, load_tokenizer(folder)


def convert_language_model(folder: Path, device: str | torch.device, dtype: torch.dtype) -> Any | None:
    """Read a language model into another number format than its file's, one tensor at a time.

    transformers keeps the file mapped while it converts, which takes half as much memory again.

    Args:
        folder: A Hugging Face folder with safetensors.
        device: Where the weights go.
        dtype: Their number format.

    Returns:
        The model, or None where there is nothing to convert, or the file's tensors are not just the model's: then
        `load_language_model` knows what to do or to say.
    """
    try:
        config = AutoConfig.from_pretrained(folder, **NO_CODE)
        shapes = tensor_shapes(folder)
        stored = next(tensor.dtype for _, tensor in read_tensors(folder))
    except UNREADABLE:  # `load_language_model` meets the same fault and says it
        return None
    if stored == dtype:
        return None
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, **NO_CODE)  # buffers too: Gemma's scale is one
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        expected = {name: shape for name, shape in expected.items() if name != "lm_head.weight"}
    if shapes != expected or getattr(model, "_keep_in_fp32_modules", None):
        return None
    state = {
        name: tensor.to(device, dtype if tensor.is_floating_point() else None) for name, tensor in read_tensors(folder)
    }
    model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.to(device).eval()


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
