"""SBERT and BERTScore through their own packages, on a tiny random BERT; skipped without the extra `similarity`."""

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from avem.tools.prefs.frames_study import MEASURES, load_scorer


@pytest.fixture
def bert(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "he", "she", "smiles", "cries", "a", "man"]
    inner = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    named = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    hf.BertModel(hf.BertConfig(vocab_size=len(words), **size)).save_pretrained(tmp_path)
    hf.PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=64, **named).save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_equal_texts_score_1_and_others_less(bert):
    pytest.importorskip("bert_score", reason="the extra `similarity` is not installed")
    pytest.importorskip("sentence_transformers", reason="the extra `similarity` is not installed")
    found = load_scorer(bert, bert, layers=2)(["he smiles", "she cries"], ["he smiles", "a man smiles"])
    assert tuple(found) == MEASURES
    for values in found.values():
        assert values[0] == pytest.approx(1, abs=1e-5)
        assert values[1] < 0.95
