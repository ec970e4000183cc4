"""From the four streams of a clip to tokens of the language model: a norm and linear layers.

The frame's patches are joined four by four in row-major order, a strip of one row and not a square, and each strip
becomes a token. Face, motion, sound and the frame's CLS become one token each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from avem.errors import CheckpointError, FingerprintError, PromptError

FRAME, FACE, MOTION, SOUND = "frame/eva_g", "face/mae", "motion/videomae", "audio/hubert"
STREAMS = (FRAME, FACE, MOTION, SOUND)
"""The streams of a clip, in the order of their tokens; CLS, which comes last, is the frame's."""
VECTORS = {FACE: "feats_llama_proj1", MOTION: "feats_llama_proj2", SOUND: "feats_llama_proj3"}
"""Streams of one vector a clip and the layers that project them."""
NORM_EPS = 1e-5
"""Of `ln_vision`."""


@dataclass(frozen=True, slots=True)
class ProjectionSizes:
    """Widths of the streams and of the language model."""

    frame: int
    """C of the frame's tokens."""
    joined: int
    """Patches that become one token; 4 as released."""
    face: int
    motion: int
    sound: int
    hidden: int
    """H."""

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor], source: object) -> ProjectionSizes:
        """Read the sizes from a checkpoint's tensors.

        Raises:
            CheckpointError: A projection is missing or misshapen.
        """
        needed = ("llama_proj", "cls_tk_llama_proj", *VECTORS.values())
        shapes = {name: tuple(tensors[f"{name}.weight"].shape) for name in needed if f"{name}.weight" in tensors}
        if missing := [name for name in needed if name not in shapes]:
            raise CheckpointError(f"{source} has no {missing[0]}.weight, so it is not an Emotion-LLaMA checkpoint.")
        widths = {name: shape[-1] for name, shape in shapes.items()}
        frame = widths["cls_tk_llama_proj"]
        if any(len(shape) != 2 for shape in shapes.values()) or widths["llama_proj"] % frame:
            raise CheckpointError(
                f"{source}: llama_proj takes {widths['llama_proj']} channels, which are not whole tokens of the "
                f"{frame} that cls_tk_llama_proj takes."
            )
        face, motion, sound = (widths[VECTORS[name]] for name in (FACE, MOTION, SOUND))
        return cls(frame, widths["llama_proj"] // frame, face, motion, sound, shapes["llama_proj"][0])


class Projections(nn.Module):
    """The layers between a clip's streams and the language model, under the released checkpoint's names.

    `ln_vision` is frozen: the released checkpoint holds none, and its weight is 1 and its bias 0.
    """

    def __init__(self, sizes: ProjectionSizes) -> None:
        super().__init__()
        H = sizes.hidden
        self.sizes = sizes
        self.ln_vision = nn.LayerNorm(sizes.frame, NORM_EPS)
        self.llama_proj = nn.Linear(sizes.joined * sizes.frame, H)
        self.feats_llama_proj1 = nn.Linear(sizes.face, H)
        self.feats_llama_proj2 = nn.Linear(sizes.motion, H)
        self.feats_llama_proj3 = nn.Linear(sizes.sound, H)
        self.cls_tk_llama_proj = nn.Linear(sizes.frame, H)
        self.ln_vision.requires_grad_(False)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the layers."""
        return self.llama_proj.weight.dtype

    def image_count(self, tokens: int) -> int:
        """Tokens N that a frame's T tokens become, CLS left aside.

        Raises:
            FingerprintError: The patches are not whole strips.
        """
        if tokens < 2 or (tokens - 1) % self.sizes.joined:
            raise FingerprintError(
                f"A frame has {tokens} tokens, which are not CLS and strips of {self.sizes.joined} patches; extract "
                f"{FRAME} with the encoder that the model was trained on."
            )
        return (tokens - 1) // self.sizes.joined

    def check(self, name: str, rows: torch.Tensor) -> None:
        """Refuse rows that no layer reads.

        Args:
            name: A stream of `STREAMS`.
            rows: `[..., T, C]` of the frame, `[..., C]` of the others.

        Raises:
            FingerprintError: Their width is another than the layer's.
        """
        layer = "llama_proj" if name == FRAME else VECTORS[name]
        wanted = self.sizes.frame if name == FRAME else getattr(self, layer).in_features
        if rows.shape[-1] != wanted:
            raise FingerprintError(
                f"The stream {name} has {rows.shape[-1]} channels but the model's {layer} was made for {wanted}; "
                f"take the features that the model was trained on."
            )

    def project_frame(self, tokens: torch.Tensor) -> torch.Tensor:
        """The encoder's output `[B, T, C]`, CLS first, to `[B, N + 1, H]`: the image's tokens, then CLS."""
        self.check(FRAME, tokens)
        count = self.image_count(tokens.shape[1])
        tokens = self.ln_vision(tokens.to(self.dtype))
        strips = tokens[:, 1:].reshape(len(tokens), count, -1)  # [B, N, joined * C]
        return torch.cat([self.llama_proj(strips), self.cls_tk_llama_proj(tokens[:, :1])], 1)

    def project_vector(self, name: str, vectors: torch.Tensor) -> torch.Tensor:
        """A stream's vectors `[B, C]` to `[B, 1, H]`."""
        self.check(name, vectors)
        token: torch.Tensor = getattr(self, VECTORS[name])(vectors.to(self.dtype))
        return token[:, None]

    def forward(self, streams: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """All tokens of some clips.

        Args:
            streams: `frame/eva_g` [B, T, C]; `face/mae`, `motion/videomae` and `audio/hubert` [B, C].

        Returns:
            `[B, N + 4, H]`: image, face, motion, sound, CLS.

        Raises:
            PromptError: A stream is missing.
            FingerprintError: A stream has another width than the model was made for.
        """
        if missing := [name for name in STREAMS if name not in streams]:
            raise PromptError(f"The stream {missing[0]} is missing; Emotion-LLaMA reads {', '.join(STREAMS)}.")
        frame = self.project_frame(streams[FRAME])
        vectors = [self.project_vector(name, streams[name]) for name in VECTORS]
        return torch.cat([frame[:, :-1], *vectors, frame[:, -1:]], 1)
