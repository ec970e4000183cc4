"""Named sets of settings: the paper's method, its ablations (Tables 5, 17, 18) and its rivals (D.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avem.errors import SettingError

NAIVE: dict[str, Any] = {"rejected": "random", "gamma_tpd": 0.0, "lambda_av": 0.0}
"""One rejected answer, no prior, no rejected input: Naive-DPO, from which rivals differ."""

PREFERENCE_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "paper-exact": {"negatives": "random-emotion", "match_negatives": False, "batch_size": 2, "accumulation": 32},
    "avere-dpo": {
        "tune": "full",
        "schedule": "linear",
        "warmup": 0.1,
        "precision": "bf16",
        "gradient_checkpointing": True,
    },
    "naive-dpo": NAIVE,
    "vista-dpo": {"gamma_tpd": 0.0, "rejected_input": "both"},
    "no-pmp": {"lambda_av": 0.0},
    "no-erp": {"rejected": "random"},
    "no-tpd": {"gamma_tpd": 0.0},
    "swap-both": {"rejected_input": "both"},
    "only-vr": {"beta_vr": 1.0, "beta_er": 0.0},
    "only-er": {"beta_vr": 0.0, "beta_er": 1.0},
    "only-irr": {"beta_vr": 0.0, "beta_er": 0.0, "beta_irr": 1.0},
    "er-irr": {"beta_vr": 0.0, "beta_er": 0.7, "beta_irr": 0.3},
    "vr-irr": {"beta_vr": 0.7, "beta_er": 0.0, "beta_irr": 0.3},
    "avem-dpo-split": {"rejected": "each"},
    "mod-dpo": {**NAIVE, "invariance": 0.1, "sensitivity": 0.05},
    "mod-dpo-plus": {**NAIVE, "invariance": 0.1, "sensitivity": 0.05, "gamma_tpd": 0.2},
    "omni-dpo": {**NAIVE, "lambda_av": 1.0, "rejected_input": "each"},
    "mdpo": {**NAIVE, "lambda_av": 1.0, "rejected_input": "both", "anchor": 1.0},
    "rpo": {**NAIVE, "nll": 1.0},
    "simpo": {**NAIVE, "loss": "simpo", "beta": 2.0, "target_margin": 1.0},
    "ipo": {**NAIVE, "loss": "ipo"},
    "cdpo": {**NAIVE, "label_smoothing": 0.1},
    "robust-dpo": {**NAIVE, "loss": "robust", "label_smoothing": 0.1},
}
"""Settings of `PreferenceConfig` that differ from the paper's. `paper-exact` takes its words literally where `paper`
does not: any clip of another emotion (4.1), drawn for each row, and the 2 x 4 x 8 = 64 rows of a step (C.3) on one
device; on n processes, set accumulation to 32 / n. `avere-dpo` is the method as the script released with the paper runs
it (ihp-lab/AVERE, `scripts/dpo_scripts/dpo_video_audio.sh`): rate, batch and weights as in C.3, a linear schedule with
10 % warm-up, of which C.3 says nothing, and all weights of the language model learn where C.3 has LoRA. The script
replaces rejected sound by noise; avem uses mined clips.
`no-erp` draws its one rejected answer as Naive-DPO does, since Eq. 11 does not say which it is; `er-irr` and `vr-irr`
give the first answer what beta_irr = 0.3 leaves. The presets from `avem-dpo-split` on are beyond the paper;
`docs/objectives.md` says where they come from and what of them is avem's choice."""

SUPERVISED_PRESETS: dict[str, dict[str, Any]] = {
    "sft": {},
    "projector": {"tune": "none", "learning_rate": 1e-3},
    "avere-video-projector": {
        "tune": "none",
        "streams": "video",
        "learning_rate": 1e-3,
        "batch_size": 32,
        "accumulation": 1,
        "precision": "bf16",
        "gradient_checkpointing": True,
    },
    "avere-audio-projector": {
        "tune": "none",
        "streams": "audio",
        "learning_rate": 1e-3,
        "batch_size": 144,
        "accumulation": 1,
        "precision": "bf16",
        "gradient_checkpointing": True,
    },
    "avere-sft": {
        "batch_size": 12,
        "accumulation": 1,
        "precision": "bf16",
        "gradient_checkpointing": True,
    },
    "avere-sft-lora": {
        "tune": "lora",
        "lora_rank": 128,
        "lora_scale": 2.0,
        "learning_rate": 2e-4,
        "projector_learning_rate": 2e-5,
        "batch_size": 16,
        "accumulation": 1,
        "precision": "bf16",
        "gradient_checkpointing": True,
    },
}
"""Settings of `SupervisedConfig`. The rates of `sft` and `projector` are those usual for a Llama of 7B and
fresh projectors. D.2 names the stages and no numbers; those of `avere-*` are the released scripts', whose batch sizes
count for each GPU: ihp-lab/AVERE `scripts/v1_5/pretrain_audio.sh` (one GPU), `finetune_video_audio.sh` (eight) and
`finetune_lora.sh` (any number), and for the video projector PKU-YuanGroup/Video-LLaVA `scripts/v1_5/pretrain.sh` (any
number in its last version; the first took four, and two micro-batches a step). All have one epoch, cosine, 3 % warm-up
and no decay, like the defaults here."""


def preset(presets: Mapping[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """The settings of a preset.

    Raises:
        SettingError: There is no such preset; the message lists those there are.
    """
    if name not in presets:
        raise SettingError(f"There is no preset {name}; choose one of {', '.join(presets)}.")
    return presets[name]
