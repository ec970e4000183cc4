"""The reference's preference log-probabilities, end to end: policy, reference, replaced inputs, text alone."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from transformers import WhisperModel

from avem.train import AudiovisualLM, ScoredSequence, load_model

RESPONSES = ("yw", "yvr", "yer")


@pytest.fixture(scope="module")
def audio_states(golden, preference_golden) -> dict[str, torch.Tensor]:
    encoder = WhisperModel.from_pretrained(golden / "whisper").encoder.eval()
    with torch.no_grad():
        return {side: encoder(preference_golden.tensor(f"log_mels_{side}")).last_hidden_state for side in "wl"}


@pytest.fixture(scope="module")
def video_features(golden, preference_golden) -> dict[str, torch.Tensor]:
    from avem.extract import load_video_encoder

    encoder = load_video_encoder(golden / "languagebind_video", device="cpu", dtype=torch.float32)
    with torch.no_grad():
        return {side: encoder.encode(preference_golden.tensor(f"pixel_values_{side}"))[0] for side in "wl"}


@pytest.fixture(scope="module")
def reference_model(golden) -> AudiovisualLM:
    model = load_model(golden / "avere_tiny")
    state = load_file(golden / "preference" / "reference_policy_llm.safetensors")
    report = model.language_model.load_state_dict(state, strict=False)
    assert not report.unexpected_keys
    return model


def sequences(golden, video_features, audio_states, response: str, replaced: str) -> list[ScoredSequence]:
    """The three samples with one response; `replaced` says which inputs are the rejected ones."""
    made = []
    for number, sample in enumerate(golden.texts["samples"]):
        everything = replaced == "both"
        sides = {
            kind: "l" if everything or (replaced == "pmp" and sample["modality"] in (kind, "audiovisual")) else "w"
            for kind in ("visual", "audio")
        }
        keep = golden.tensor(f"attention_mask_{response}")[number].bool()
        labels = golden.tensor(f"labels_{response}")[number][keep]
        made.append(
            ScoredSequence(
                golden.tensor(f"ids_{response}")[number][keep],
                video_features[sides["visual"]][number],
                audio_states[sides["audio"]][number],
                int((labels != -100).nonzero()[0]),
            )
        )
    return made


@pytest.mark.parametrize("policy", ["policy", "reference"])
def test_audiovisual_scores_in_one_call(
    policy, avere_model, reference_model, preference_golden, video_features, audio_states
):
    cases = [(response, "none") for response in RESPONSES] + [("yw", "pmp"), ("yw", "both")]
    names = [f"avw_{response}" for response in RESPONSES] + ["avl_pmp_yw", "avl_both_yw"]
    batch = [
        sequence
        for response, replaced in cases
        for sequence in sequences(preference_golden, video_features, audio_states, response, replaced)
    ]
    model = avere_model if policy == "policy" else reference_model
    with torch.no_grad():
        scores = model.response_logprobs(batch).double().view(5, 3)
    for name, found in zip(names, scores, strict=True):
        expected = preference_golden.tensor(f"logp_{policy}_{name}")
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_text_alone(reference_model, preference_golden):
    for name, key in (("yw", "y_w"), ("yvr", "y_vr"), ("yer", "y_er")):
        made = [
            reference_model.sequence(sample["text_only_prompt"], sample[key])
            for sample in preference_golden.texts["samples"]
        ]
        for number, sequence in enumerate(made):
            keep = preference_golden.tensor(f"text_attention_mask_{name}")[number].bool()
            assert sequence.ids.tolist() == preference_golden.tensor(f"text_ids_{name}")[number][keep].tolist()
        with torch.no_grad():
            scores = reference_model.response_logprobs(made).double()
        torch.testing.assert_close(scores, preference_golden.tensor(f"logp_text_{name}"), atol=1e-3, rtol=0)
