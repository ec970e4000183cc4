"""Small random models of each family that an adapter runs, in folders as the hub has them."""

from __future__ import annotations

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from avem.transformers_ready import ready_transformers
from tests.evaluate.voxtral_kit import voxtral

ready_transformers()

TEMPLATE = (
    "{{% for m in messages %}}<|im_start|>{{{{ m['role'] }}}}\n"
    "{{% for part in m['content'] %}}"
    "{{% if part['type'] == 'video' %}}{video}{{% elif part['type'] == 'audio' %}}{audio}"
    "{{% elif part['type'] == 'image' %}}{image}"
    "{{% else %}}{{{{ part['text'] }}}}{{% endif %}}{{% endfor %}}<|im_end|>\n{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
}


def tokenizer(**named):
    """One token a byte, and special tokens by the names that processors look for."""
    special = ["<unk>", "<|im_start|>", "<|im_end|>", *named.values()]
    vocabulary = {
        token: number for number, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])
    }
    words = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    words.add_special_tokens(special)
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        pad_token="<unk>",
        eos_token="<|im_end|>",
        extra_special_tokens=named,
    )


def whisper_features(mels=80):
    return hf.WhisperFeatureExtractor(feature_size=mels)


def qwen2_5_vl():
    words = tokenizer(
        image_token="<|image_pad|>", video_token="<|video_pad|>", start="<|vision_start|>", end="<|vision_end|>"
    )
    ids = words.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"])
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [1],
    }
    text = {
        **TEXT,
        "vocab_size": len(words),
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
    }
    config = hf.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids[0],
        video_token_id=ids[1],
        vision_start_token_id=ids[2],
        vision_end_token_id=ids[3],
    )
    size = {"shortest_edge": 56 * 56, "longest_edge": 56 * 56 * 8}
    processor = hf.Qwen2_5_VLProcessor(
        hf.Qwen2VLImageProcessor(size=size),
        words,
        hf.Qwen2VLVideoProcessor(size=size),
        chat_template=TEMPLATE.format(image="", video="<|vision_start|><|video_pad|><|vision_end|>", audio=""),
    )
    return hf.Qwen2_5_VLForConditionalGeneration(config), processor


def internvl():
    words = tokenizer(
        start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>", video_token="<video>"
    )
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": [56, 56],
        "patch_size": [14, 14],
    }
    config = hf.InternVLConfig(
        text_config=hf.Qwen2Config(**TEXT, vocab_size=len(words)),
        vision_config=vision,
        image_seq_length=4,
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )
    size = {"height": 56, "width": 56}
    processor = hf.InternVLProcessor(
        hf.GotOcr2ImageProcessor(size=size),
        words,
        hf.InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=TEMPLATE.format(image="", video="<video>\n", audio=""),
    )
    return hf.InternVLForConditionalGeneration(config), processor


def qwen2_audio():
    words = tokenizer(audio_token="<|AUDIO|>", audio_bos_token="<|audio_bos|>", audio_eos_token="<|audio_eos|>")
    audio = {
        "num_mel_bins": 80,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "d_model": 32,
    }
    config = hf.Qwen2AudioConfig(
        text_config=hf.Qwen2Config(**TEXT, vocab_size=len(words)).to_dict(),
        audio_config=audio,
        audio_token_index=words.convert_tokens_to_ids("<|AUDIO|>"),
    )
    processor = hf.Qwen2AudioProcessor(
        whisper_features(),
        words,
        chat_template=TEMPLATE.format(image="", video="", audio="<|audio_bos|><|AUDIO|><|audio_eos|>\n"),
    )
    return hf.Qwen2AudioForConditionalGeneration(config), processor


def audioflamingo3():
    words = tokenizer(audio_token="<sound>")
    audio = {
        "num_mel_bins": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "hidden_size": 32,
    }
    config = hf.AudioFlamingo3Config(
        text_config=hf.Qwen2Config(**TEXT, vocab_size=len(words)),
        audio_config=audio,
        audio_token_id=words.convert_tokens_to_ids("<sound>"),
    )
    processor = hf.AudioFlamingo3Processor(
        whisper_features(), words, chat_template=TEMPLATE.format(image="", video="", audio="<sound>")
    )
    return hf.AudioFlamingo3ForConditionalGeneration(config), processor


def qwen2_5_omni():
    named = {
        "image_token": "<|IMAGE|>",
        "audio_token": "<|AUDIO|>",
        "video_token": "<|VIDEO|>",
        "vision_bos_token": "<|vision_bos|>",
        "vision_eos_token": "<|vision_eos|>",
        "audio_bos_token": "<|audio_bos|>",
        "audio_eos_token": "<|audio_eos|>",
    }
    words = tokenizer(**named)
    ids = {name: words.convert_tokens_to_ids(token) for name, token in named.items()}
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [1],
    }
    audio = {
        "num_mel_bins": 80,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "d_model": 32,
        "output_dim": 32,
    }
    text = {
        **TEXT,
        "vocab_size": len(words),
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
    }
    thinker = hf.Qwen2_5OmniThinkerConfig(
        audio_config=audio,
        vision_config=vision,
        text_config=text,
        image_token_index=ids["image_token"],
        video_token_index=ids["video_token"],
        audio_token_index=ids["audio_token"],
        audio_start_token_id=ids["audio_bos_token"],
        audio_end_token_id=ids["audio_eos_token"],
        vision_start_token_id=ids["vision_bos_token"],
        vision_end_token_id=ids["vision_eos_token"],
    )
    size = {"shortest_edge": 56 * 56, "longest_edge": 56 * 56 * 8}
    processor = hf.Qwen2_5OmniProcessor(
        hf.Qwen2VLImageProcessor(size=size),
        hf.Qwen2VLVideoProcessor(size=size),
        whisper_features(),
        words,
        chat_template=TEMPLATE.format(
            image="", video="<|vision_bos|><|VIDEO|><|vision_eos|>", audio="<|audio_bos|><|AUDIO|><|audio_eos|>"
        ),
    )
    config = hf.Qwen2_5OmniConfig(thinker_config=thinker.to_dict(), enable_audio_output=False)
    return hf.Qwen2_5OmniForConditionalGeneration(config), processor


MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2], "mrope_interleaved": True}
DEEP_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 32,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0, 1],
}


def qwen3_vl():
    words = tokenizer(
        image_token="<|image_pad|>", video_token="<|video_pad|>", start="<|vision_start|>", end="<|vision_end|>"
    )
    ids = words.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"])
    config = hf.Qwen3VLConfig(
        text_config={**TEXT, "vocab_size": len(words), "head_dim": 8, "rope_parameters": MROPE},
        vision_config=DEEP_VISION,
        image_token_id=ids[0],
        video_token_id=ids[1],
        vision_start_token_id=ids[2],
        vision_end_token_id=ids[3],
    )
    size = {"shortest_edge": 64 * 64, "longest_edge": 64 * 64 * 8}
    processor = hf.Qwen3VLProcessor(
        hf.Qwen2VLImageProcessor(size=size, patch_size=16),
        words,
        hf.Qwen3VLVideoProcessor(size=size, patch_size=16),
        chat_template=TEMPLATE.format(image="", video="<|vision_start|><|video_pad|><|vision_end|>", audio=""),
    )
    return hf.Qwen3VLForConditionalGeneration(config), processor


def video_llama_3():
    words = tokenizer(image_token="<image>", video_token="<video>")
    ids = words.convert_tokens_to_ids(["<image>", "<video>"])
    config = hf.VideoLlama3Config(
        text_config=hf.Qwen2Config(**TEXT, vocab_size=len(words)).to_dict(),
        vision_config={"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "patch_size": 14},
        image_token_id=ids[0],
        video_token_id=ids[1],
    )  # fmt: skip
    size = {"shortest_edge": 56 * 56, "longest_edge": 56 * 56 * 8}
    processor = hf.VideoLlama3Processor(
        hf.VideoLlama3ImageProcessor(size=size),
        words,
        hf.VideoLlama3VideoProcessor(size=size),
        chat_template=TEMPLATE.format(image="", video="<video>", audio=""),
    )
    return hf.VideoLlama3ForConditionalGeneration(config), processor


def qwen3_omni_moe():
    named = {
        "image_token": "<|image_pad|>",
        "audio_token": "<|audio_pad|>",
        "video_token": "<|video_pad|>",
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
        "audio_bos_token": "<|audio_start|>",
        "audio_eos_token": "<|audio_end|>",
    }
    words = tokenizer(**named)
    ids = {name: words.convert_tokens_to_ids(token) for name, token in named.items()}
    audio = {
        "num_mel_bins": 80,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "d_model": 32,
        "output_dim": 32,
        "downsample_hidden_size": 8,
    }
    text = {
        **TEXT,
        "vocab_size": len(words),
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "rope_parameters": MROPE,
    }
    thinker = hf.Qwen3OmniMoeThinkerConfig(
        audio_config=audio,
        vision_config=DEEP_VISION,
        text_config=text,
        image_token_id=ids["image_token"],
        video_token_id=ids["video_token"],
        audio_token_id=ids["audio_token"],
        audio_start_token_id=ids["audio_bos_token"],
    )
    for name in ("vision_start_token_id", "vision_end_token_id", "audio_end_token_id"):
        setattr(thinker, name, ids[name.replace("start_token_id", "bos_token").replace("end_token_id", "eos_token")])
    size = {"shortest_edge": 64 * 64, "longest_edge": 64 * 64 * 8}
    processor = hf.Qwen3OmniMoeProcessor(
        hf.Qwen2VLImageProcessor(size=size, patch_size=16),
        hf.Qwen2VLVideoProcessor(size=size, patch_size=16),
        whisper_features(),
        words,
        chat_template=TEMPLATE.format(
            image="",
            video="<|vision_start|><|video_pad|><|vision_end|>",
            audio="<|audio_start|><|audio_pad|><|audio_end|>",
        ),
    )
    return hf.Qwen3OmniMoeThinkerForConditionalGeneration(thinker), processor


def phi4_multimodal():
    words = tokenizer(image_token="<|image|>", audio_token="<|audio|>")
    ids = words.convert_tokens_to_ids(["<|image|>", "<|audio|>"])
    config = hf.Phi4MultimodalConfig(
        **{**TEXT, "vocab_size": len(words)},
        vision_config={"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "image_size": 448, "crop_size": 448, "patch_size": 14, "image_token_id": ids[0]},
        audio_config={"hidden_size": 32, "intermediate_size": 48, "num_blocks": 2, "num_attention_heads": 2,
                      "ext_pw_out_channel": 32, "depthwise_separable_out_channel": 32, "nemo_conv_channels": 16,
                      "audio_token_id": ids[1]},
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
        pad_token_id=0,
    )  # fmt: skip
    processor = hf.Phi4MultimodalProcessor(
        hf.Phi4MultimodalImageProcessor(dynamic_hd=1),
        hf.Phi4MultimodalFeatureExtractor(),
        words,
        chat_template=TEMPLATE.format(image="<|image|>", video="", audio="<|audio|>"),
    )
    return hf.Phi4MultimodalForCausalLM(config), processor


def gemma3n():
    """With a small vision tower of timm's: 256 channels, 2 x 2 tokens of 64 x 64 pixels."""
    named = {f"{kind}_token": f"<{kind}>" for kind in ("image", "boi", "eoi", "audio", "boa", "eoa")}
    words = tokenizer(**named)
    text_size = len(words)
    ids = {f"{name}_id": words.convert_tokens_to_ids(token) for name, token in named.items()}
    config = hf.Gemma3nConfig(
        text_config={**TEXT, "vocab_size": text_size + 256, "vocab_size_per_layer_input": text_size, "head_dim": 8,
                     "hidden_size_per_layer_input": 8, "intermediate_size": [48, 48], "num_kv_shared_layers": 0,
                     "layer_types": ["sliding_attention", "full_attention"], "laurel_rank": 4, "pad_token_id": 0,
                     "activation_sparsity_pattern": [0.0, 0.0], "eos_token_id": words.eos_token_id},
        vision_config={"architecture": "test_efficientnet", "hidden_size": 256, "vocab_offset": text_size},
        audio_config={"hidden_size": 32, "conf_num_hidden_layers": 2, "conf_num_attention_heads": 2,
                      "sscp_conv_channel_size": (8, 4), "vocab_offset": text_size + 128},
        vision_soft_tokens_per_image=4,
        **ids,
    )  # fmt: skip
    processor = hf.Gemma3nProcessor(
        hf.Gemma3nAudioFeatureExtractor(),
        hf.SiglipImageProcessor(size={"height": 64, "width": 64}),
        words,
        chat_template=TEMPLATE.format(image="<image>", video="", audio="<audio>"),
        image_seq_length=4,
    )
    return hf.Gemma3nForConditionalGeneration(config), processor


FAMILIES = {
    "qwen3_vl": qwen3_vl,
    "video_llama_3": video_llama_3,
    "qwen3_omni_moe_thinker": qwen3_omni_moe,
    "phi4_multimodal": phi4_multimodal,
    "qwen2_5_vl": qwen2_5_vl,
    "internvl": internvl,
    "qwen2_audio": qwen2_audio,
    "audioflamingo3": audioflamingo3,
    "qwen2_5_omni": qwen2_5_omni,
    "gemma3n": gemma3n,
    "voxtral": voxtral,
}


def save_small(family, folder):
    """Write a model and its processor; returns the folder."""
    torch.manual_seed(0)
    model, processor = FAMILIES[family]()
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
