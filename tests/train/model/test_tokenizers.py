"""Tokenizers read from their files, whichever of them are there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from avem.errors import CheckpointError
from avem.train.model.tokenizers import load_tokenizer


def test_sentencepiece_file_gives_the_same_tokenizer(golden, avere_golden, tmp_path):
    shutil.copyfile(golden / "avere_tiny" / "tokenizer.model", tmp_path / "tokenizer.model")
    tokenizer = load_tokenizer(tmp_path)
    expected = json.loads((golden / "avere_tiny" / "tokenizer.json").read_text())
    assert json.loads(tokenizer.backend_tokenizer.to_str()) == expected
    for case in avere_golden.texts["tokenizer_cases"]:
        assert tokenizer(case["text"]).input_ids == case["ids"], case["text"]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)


@pytest.mark.parametrize("content", [b"", b"\x0e\x01nonsense"])
def test_broken_sentencepiece_file(tmp_path: Path, content):
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(CheckpointError, match="no tokenizer that can be read"):
        load_tokenizer(tmp_path)


def test_broken_tokenizer_json(tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no tokenizer that can be read"):
        load_tokenizer(tmp_path)
