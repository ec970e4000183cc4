"""Tokenizers from a folder, exactly as their files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from avem.errors import CheckpointError
from avem.guards.remote_code import NO_CODE, refuse_code
from avem.reading import read_json

SPACE = "\u2581"
"""SentencePiece's visible space."""


def load_tokenizer(folder: Path) -> Any:
    """Read a folder's tokenizer.

    `tokenizer.json` is used as it stands: rebuilding it from the class that the configuration names can change how text
    that starts with a space is split. A Llama folder with `tokenizer.model` alone gives the same tokenizer.

    Raises:
        CheckpointError: There is no tokenizer that can be read, or only code in the folder could read it.
    """
    refuse_code(folder)
    try:
        if (folder / "tokenizer.json").is_file():
            return PreTrainedTokenizerFast.from_pretrained(folder, trust_remote_code=False)
        if _is_llama(folder):
            return read_llama_sentencepiece(folder / "tokenizer.model")
        return AutoTokenizer.from_pretrained(folder, **NO_CODE)
    except Exception as error:  # the tokenizers library raises bare exceptions
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{folder} holds no tokenizer that can be read ({reason}); "
            f"put the language model's tokenizer.json beside the weights."
        ) from error


def read_llama_sentencepiece(path: Path) -> PreTrainedTokenizerFast:
    """Read a Llama tokenizer from its SentencePiece file (byte-pair encoding with byte fallback, a leading space).

    Args:
        path: `tokenizer.model`.
    """
    pieces = SentencePieceProcessor(model_file=str(path))
    names = [pieces.id_to_piece(number) for number in range(pieces.get_piece_size())]
    special = [name for number, name in enumerate(names) if pieces.is_control(number) or pieces.is_unknown(number)]
    vocabulary = {name: number for number, name in enumerate(names)}
    unknown, first, last = (names[number] for number in (pieces.unk_id(), pieces.bos_id(), pieces.eos_id()))
    tokenizer = Tokenizer(
        models.BPE(vocabulary, _merges(pieces, vocabulary), unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A", pair=f"{first} $A {first} $B", special_tokens=[(first, pieces.bos_id())]
    )
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=unknown, bos_token=first, eos_token=last, pad_token=unknown
    )


def _merges(pieces: Any, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to join two pieces into a third, best score first, as SentencePiece would take them."""
    found = []
    for name, number in vocabulary.items():
        if not (pieces.is_control(number) or pieces.is_unknown(number) or pieces.is_byte(number)):
            for cut in range(1, len(name)):
                left, right = vocabulary.get(name[:cut]), vocabulary.get(name[cut:])
                if left is not None and right is not None:
                    found.append((-pieces.get_score(number), number, left, right, name[:cut], name[cut:]))
    return [merge[4:] for merge in sorted(found)]


def _is_llama(folder: Path) -> bool:
    """Whether `tokenizer.model` is there and no configuration says that it is another family's."""
    path = folder / "tokenizer_config.json"
    settings = read_json(path, dict) if path.is_file() else {}
    named = settings.get("tokenizer_class", "LlamaTokenizer")
    return (folder / "tokenizer.model").is_file() and named in ("LlamaTokenizer", "LlamaTokenizerFast")
