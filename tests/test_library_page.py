"""The examples of docs/library.md run as they stand, with small models in place of downloaded ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.train.library_kit import llama, tokenizer

PAGE = Path(__file__).parents[1] / "docs" / "library.md"


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::ResourceWarning")
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("trl", reason="needs avem[trl]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda name: llama(torch.float32))
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda name: tokenizer())
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    code = "\n".join(blocks).replace("max_steps=2", 'max_steps=2, use_cpu=True, bf16=False, report_to="none"')
    names: dict[str, object] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    assert "torch.Size([3])" in capsys.readouterr().out
    assert names["trainer"].state.global_step == 2
    assert (tmp_path / "scores" / "logprobs").is_dir()
    sequence = names["with_picture"](torch.zeros(4, 32), [1, 2], [3])
    assert sequence.length == 7
