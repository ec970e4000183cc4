"""Whisper from CTranslate2's `model.bin` to openai's `.pt`: `python -m avem.tools.ctranslate2 FOLDER whisper.pt`.

faster-whisper and its relatives ship Whisper in this form. The file is a list of named arrays: little-endian counts,
names ending in a zero byte, shapes, a type number and the values (`ModelSpec.save` of CTranslate2, binary version 6).
"""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from avem.errors import AvemError, CheckpointError, MissingFileError
from avem.files import write_new
from avem.text.terminal import show

BINARY_VERSIONS = (4, 5, 6)
"""Versions of the file in which each array names its type."""
DTYPES = {
    0: torch.float32,
    1: torch.int8,
    2: torch.int16,
    3: torch.int32,
    4: torch.float16,
    5: torch.bfloat16,
}
"""CTranslate2's type numbers."""

BLOCK_NAMES = {
    "self_attention/layer_norm": "attn_ln",
    "self_attention/linear_1": "attn.out",
    "ffn/layer_norm": "mlp_ln",
    "ffn/linear_0": "mlp.0",
    "ffn/linear_1": "mlp.2",
    "attention/layer_norm": "cross_attn_ln",
    "attention/linear_0": "cross_attn.query",
    "attention/linear_2": "cross_attn.out",
}
"""Parts of a layer under CTranslate2's names, and under openai's."""
FUSED_NAMES = {
    "self_attention/linear_0": ("attn.query", "attn.key", "attn.value"),
    "attention/linear_1": ("cross_attn.key", "cross_attn.value"),
}
"""Projections that CTranslate2 keeps as one matrix, stacked along the output axis."""
END_NAMES = {
    "encoder/conv1": "encoder.conv1",
    "encoder/conv2": "encoder.conv2",
    "encoder/layer_norm": "encoder.ln_post",
    "decoder/layer_norm": "decoder.ln",
    "decoder/embeddings": "decoder.token_embedding",
}
LEAVES = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


class _Reader:
    """Takes values off the front of a file's bytes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self, code: str) -> int:
        """One little-endian unsigned integer: `B`, `H` or `I` as `struct` calls them."""
        (value,) = struct.unpack_from(f"<{code}", self._data, self._at)
        self._at += struct.calcsize(code)
        return int(value)

    def raw(self, size: int) -> bytes:
        """The next bytes."""
        if self._at + size > len(self._data):
            raise ValueError("it ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def name(self) -> str:
        """A string with its length before and a zero byte behind."""
        return self.raw(self.number("H")).rstrip(b"\0").decode()


def read_model_bin(path: Path) -> dict[str, torch.Tensor]:
    """All arrays of a CTranslate2 Whisper file by CTranslate2's names, as they are stored.

    Raises:
        MissingFileError: There is no such file.
        CheckpointError: It is damaged, of another version, or another kind of model.
    """
    if not path.is_file():
        raise MissingFileError(f"There is no file {path}; give a folder that holds CTranslate2's model.bin.")
    reader = _Reader(path.read_bytes())
    try:
        version, spec, _ = reader.number("I"), reader.name(), reader.number("I")
        if version not in BINARY_VERSIONS or spec != "WhisperSpec":
            raise ValueError(f"it is a {spec or 'nameless'} of version {version}")
        return dict(_array(reader) for _ in range(reader.number("I")))
    except (struct.error, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} can't be read as a CTranslate2 Whisper model: {error}.") from error


def _array(reader: _Reader) -> tuple[str, torch.Tensor]:
    name = reader.name()
    shape = [reader.number("I") for _ in range(reader.number("B"))]
    dtype = DTYPES[reader.number("B")]
    values = torch.frombuffer(bytearray(reader.raw(reader.number("I"))), dtype=dtype)
    return name, values.reshape(shape)


def to_openai(arrays: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The content of openai's `.pt` file: `dims` and `model_state_dict`.

    Args:
        arrays: From `read_model_bin`.

    Raises:
        CheckpointError: Weights are quantised, which openai's layout can't hold, or an array is missing.
    """
    if any(name.endswith("/weight_scale") for name in arrays):
        raise CheckpointError("The weights are quantised to integers; convert a float16 or float32 model.")
    try:
        state = {
            f"{side}.positional_embedding": arrays[f"{side}/position_encodings/encodings"]
            for side in ("encoder", "decoder")
        }
        for name, value in arrays.items():
            state |= _renamed(name, value)
        return {"dims": _dims(arrays, state), "model_state_dict": state}
    except KeyError as error:
        raise CheckpointError(
            f"The CTranslate2 model has no {error}: it is not a Whisper model with encoder and decoder."
        ) from error


def _renamed(name: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    """One array under openai's names; none for settings, which are in `dims`, and the keys' biases, always zero."""
    part, _, leaf = name.rpartition("/")
    if part in END_NAMES:
        return {f"{END_NAMES[part]}.{LEAVES[leaf]}": value}
    side, _, rest = part.partition("/layer_")
    number, _, inner = rest.partition("/")
    block = f"{side}.blocks.{number}"
    if inner in BLOCK_NAMES:
        return {f"{block}.{BLOCK_NAMES[inner]}.{LEAVES[leaf]}": value}
    if inner in FUSED_NAMES:
        targets = FUSED_NAMES[inner]
        pieces = zip(targets, value.chunk(len(targets)), strict=True)
        return {
            f"{block}.{target}.{leaf}": piece.clone()
            for target, piece in pieces
            if not (target.endswith("key") and leaf == "bias")
        }
    return {}


def _dims(arrays: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> dict[str, int]:
    """The sizes as openai's `ModelDimensions` calls them, read off the arrays' shapes."""
    dims = {"n_mels": int(arrays["encoder/conv1/weight"].shape[1]), "n_vocab": len(arrays["decoder/embeddings/weight"])}
    for side, kind in (("encoder", "audio"), ("decoder", "text")):
        context, width = state[f"{side}.positional_embedding"].shape
        layers = {name.split(".")[2] for name in state if name.startswith(f"{side}.blocks.")}
        heads = int(arrays[f"{side}/num_heads"])
        sizes = {"ctx": context, "state": width, "head": heads, "layer": len(layers)}
        dims |= {f"n_{kind}_{name}": size for name, size in sizes.items()}
    return dims


def convert(source: Path, target: Path) -> Path:
    """Convert a CTranslate2 Whisper model to an openai `.pt` file, which `load_audio_encoder` and `whisper` read.

    Args:
        source: The folder with `model.bin`, or that file.
        target: The file to write.

    Raises:
        MissingFileError: There is no such model.
        CheckpointError: It can't be converted.
        SettingError: The file is there with another content, or is what is read.
        WriteError: It can't be written.
    """
    weights = source / "model.bin" if source.is_dir() else source
    content = to_openai(read_model_bin(weights))
    buffer = BytesIO()
    torch.save(content, buffer)
    write_new(target, buffer.getvalue(), reads=[weights], option="TARGET")
    return target


def main(
    source: Annotated[Path, typer.Argument(help="Folder with CTranslate2's model.bin.")],
    target: Annotated[Path, typer.Argument(help="The .pt file to write.")],
) -> None:
    """Convert a CTranslate2 Whisper model to an openai .pt file for `avem extract --audio-encoder`."""
    try:
        show(f"Wrote {convert(source, target)}.")
    except AvemError as error:
        show(f"avem: {error}", err=True)
        raise typer.Exit(error.exit_status) from error


if __name__ == "__main__":
    typer.run(main)
