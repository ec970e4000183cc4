"""Language models from Hugging Face folders and GGUF files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_kit import byte_tokenizer, random_audio, random_video, tiny_config, tiny_language_model
from transformers import AutoModelForCausalLM

from avem.errors import CheckpointError, MissingFileError
from avem.train import AudiovisualLM, load_model
from avem.train.model.language_models import convert_language_model, load_language_model


def write_gguf(path: Path, model) -> None:
    """A Llama in GGUF, tensors as float32, with a tokenizer of single bytes."""
    gguf = pytest.importorskip("gguf")
    config, writer = model.config, gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [f"t{number}" for number in range(config.vocab_size - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (len(tokens) - 259)])
    for name, number in (("bos", 1), ("eos", 2), ("unk", 0)):
        getattr(writer, f"add_{name}_token_id")(number)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # GGUF keeps the two halves of a rotary pair together
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            tensor = tensor.view(heads, 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf_file_scores_like_the_model_it_was_made_from(tmp_path, capfd):
    original = tiny_language_model("llama-gqa")
    write_gguf(tmp_path / "model.gguf", original)
    language_model, tokenizer = load_language_model(tmp_path / "model.gguf")
    assert capfd.readouterr() == ("", "")
    for name, tensor in original.state_dict().items():
        torch.testing.assert_close(language_model.state_dict()[name], tensor, atol=0, rtol=0)
    model = AudiovisualLM.create(language_model, tokenizer, tiny_config())
    sequences = [model.sequence("Why?", answer, random_video(0), random_audio(0)) for answer in ("Joy.", "Rain.")]
    with torch.no_grad():
        shared = model.response_logprobs(sequences)
        plain = model.response_logprobs(sequences, share_prefixes=False)
    torch.testing.assert_close(shared, plain, atol=1e-4, rtol=0)
    model.save(tmp_path / "saved")
    with torch.no_grad():
        saved = load_model(tmp_path / "saved").response_logprobs(sequences)
    torch.testing.assert_close(saved, shared, atol=1e-5, rtol=0)


def test_number_format(tmp_path):
    tiny_language_model().save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    language_model, _ = load_language_model(tmp_path, dtype=torch.bfloat16)
    assert language_model.dtype == torch.bfloat16
    assert not language_model.training


def test_models_that_are_not_there_or_no_language_models(tmp_path):
    with pytest.raises(MissingFileError, match="--language-model"):
        load_language_model(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="can't be loaded as a language model"):
        load_language_model(tmp_path)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match="can't be loaded as a language model"):
        load_language_model(tmp_path / "broken.gguf")


@pytest.mark.parametrize("family", ["llama-gqa", "smollm2", "qwen2", "gemma2"])
def test_converting_gives_what_transformers_gives(tmp_path, family):
    """From bfloat16 to float32, one tensor at a time; the same weights, buffers, settings and scores."""
    original = tiny_language_model(family).bfloat16()
    original.generation_config.eos_token_id = [1, 4]
    original.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    assert convert_language_model(tmp_path, "cpu", torch.bfloat16) is None
    ours, theirs = load_language_model(tmp_path)[0], AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    for kind in ("named_parameters", "named_buffers"):
        pairs = [dict(getattr(model, kind)()) for model in (ours, theirs)]
        assert pairs[0].keys() == pairs[1].keys()
        assert all(value.dtype == pairs[1][name].dtype for name, value in pairs[0].items())
        assert all(torch.equal(value, pairs[1][name]) for name, value in pairs[0].items())
    assert ours.generation_config.eos_token_id == [1, 4]
    assert not ours.training
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(ours(ids).logits, theirs.eval()(ids).logits)
