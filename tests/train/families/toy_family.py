"""A small family that differs from AVERE in everything the door allows.

Two visual streams, one of them ragged with companions; ragged sound; media interleaved, and a last visual token after
the sound; three-axis, fractional position ids; an extra input beside the embeddings; no `logits_to_keep`.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import torch
from accelerate import init_empty_weights
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from avem.train.families.base import FamilyModel
from avem.train.families.generic.files import check_version, load_parts
from avem.train.model.embedding import embedding_table
from avem.train.model.media import FamilyStream, MediaEmbedding, Piece
from avem.train.model.prompts import EncodedPrompt
from avem.train.model.saving import FORMAT_VERSION
from avem.train.prefix.attention import use_prefix_tree_attention
from tests.train.model_kit import byte_tokenizer, tiny_language_model

PATCH, STILL, SOUND = 6, 5, 7
"""Channels of the three streams."""
AXES = torch.tensor([1.0, 0.25, 0.0625], dtype=torch.float64)
"""How the toy's attention reads three axes: as one fractional position."""


class ToyPositions:
    """A slot of patches spans a grid; sound runs beside it; text starts after the largest id so far."""

    axes = 3

    def begin(self):
        return 0.0, None  # the next id, and where the running block of media began

    def text(self, state, ids):
        start = state[0]
        return (start + torch.arange(len(ids)).double()).expand(3, -1), (start + len(ids), None)

    def media(self, state, side, piece):
        after, began = state
        kind, *place = piece.place
        if kind == "still":
            return torch.full((3, 1), after).double(), (after + 1, None)
        began = after if began is None else began
        if kind == "slot":
            number, height, width = place
            grid = torch.cartesian_prod(torch.arange(height), torch.arange(width)).T.double()  # [2, h*w]
            ids = began + torch.cat([torch.full((1, height * width), 2.5 * number).double(), grid])
        else:
            ids = (began + place[0] + torch.arange(piece.size).double()).expand(3, -1)
        return ids, (max(after, float(ids.max()) + 1), began)


class Toy(FamilyModel):
    """See the module."""

    family = "toy"
    positions = ToyPositions()
    streams = (
        FamilyStream("video/toy", "video", "video", ("grid", "glow"), {"encoder": "toy"}, ragged=True),
        FamilyStream("frame/still", "frame", "video", (), {"encoder": "still"}),
        FamilyStream("audio/toy", "audio", "audio", ("seconds",), {"encoder": "toy"}, ragged=True),
    )

    def __init__(self, language_model, tokenizer):
        super().__init__(language_model, tokenizer)
        hidden = embedding_table(language_model).embedding_dim
        self.patches, self.still, self.sound = (nn.Linear(size, hidden) for size in (PATCH, STILL, SOUND))
        self.glow = nn.Linear(PATCH, hidden, bias=False)
        self.digests = {}
        use_prefix_tree_attention(language_model)

    def layout(self, side, group):
        if side == "audio":
            return len(group["audio/toy"].features), round(float(group["audio/toy"].companions["seconds"]), 3)
        grid = tuple(group["video/toy"].companions["grid"].tolist())
        assert len(group["video/toy"].features) == grid[0] * grid[1] * grid[2]
        assert group["frame/still"].features.shape == (STILL,)
        return grid

    def encode(self, question, answer, video, audio, **options):
        slots, height, width = video or (0, 0, 0)
        tokens, _ = audio or (0, 0.0)
        seen = [Piece(k * height * width, height * width, ("slot", k, height, width)) for k in range(slots)]
        parts = max(slots, 1)
        cuts = [tokens * k // parts for k in range(parts + 1)] if audio else [0]
        heard = [Piece(a, b - a, ("sound", a)) for a, b in pairwise(cuts) if b > a]
        ids = self._ids("<s>clip ")
        for number in range(max(len(seen), len(heard))):
            ids += [-200] * (number < len(seen)) + [-300] * (number < len(heard))
        if video:
            seen.append(Piece(slots * height * width, 1, ("still",)))
            ids.append(-200)
        ids += self._ids(f" {options.get('task', 'ask')}: {question}\n")
        start = len(ids)
        if answer is not None:
            ids += [*self._ids(answer), self.tokenizer.eos_token_id]
        return EncodedPrompt(ids, start, tuple(seen), tuple(heard))

    def media_embeddings(self, side, groups):
        kind = self.dtype
        if side == "audio":
            return [MediaEmbedding(self.sound(group["audio/toy"].features.to(self.device, kind))) for group in groups]
        made = []
        for group in groups:
            row, still = group["video/toy"], group["frame/still"].features.to(self.device, kind)
            tokens = torch.cat([self.patches(row.features.to(self.device, kind)), self.still(still)[None]])
            glow = self.glow(row.companions["glow"].to(self.device, kind))  # [1, n, H]
            made.append(MediaEmbedding(tokens, {"glow": torch.cat([glow, torch.zeros_like(glow[:, :1])], 1)}))
        return made

    def extra_inputs(self, rows, media, length):
        hidden = embedding_table(self.language_model).embedding_dim
        glow = torch.zeros(len(rows), length, hidden, dtype=self.dtype, device=self.device)
        for number, atoms in enumerate(rows):
            at = length - sum(map(media.size_of, atoms))
            for atom in atoms:
                part = None if atom >= 0 else media.extra(atom, "glow")
                if part is not None:
                    glow = glow.index_put(
                        (torch.tensor(number), torch.arange(at, at + media.size_of(atom))), part[0], accumulate=True
                    )
                at += media.size_of(atom)
        return {"glow": glow}

    def logits(self, embeddings, keep, positions=None, *, glow=None, **call):
        embeddings = embeddings if glow is None else embeddings + glow
        placed = None if positions is None else (positions * AXES.to(positions)[:, None, None]).sum(0)
        if "attention_mask" not in call:  # else a Llama takes ids that don't count up by one for several sequences
            call["attention_mask"] = torch.ones(embeddings.shape[:2], dtype=torch.int64)
        states = self.language_model.model(inputs_embeds=embeddings, position_ids=placed, **call).last_hidden_state
        return self.language_model.lm_head(states[:, -keep:] if isinstance(keep, int) else states[:, keep])

    def projectors(self, side):
        return (self.sound,) if side == "audio" else (self.patches, self.still, self.glow)

    def lora_targets(self):
        return {"target_modules": ["q_proj", "v_proj"]}

    def end_ids(self):
        return {self.tokenizer.eos_token_id}

    def identity(self):
        return {"family": "toy", "digests": self.digests}

    def expected_digest(self, name):
        return self.digests.get(name, "")

    def check_features(self, name, digest):
        assert self.digests.get(name, digest) == digest

    def record_features(self, digests):
        self.digests = dict(digests)

    def save(self, directory, *, licence=None, provenance=None, language_model=None):
        folder = Path(directory)
        self.language_model.save_pretrained(folder, state_dict=language_model)
        self.tokenizer.save_pretrained(folder)
        outside = {name: value for name, value in self.state_dict().items() if not name.startswith("language_model.")}
        save_file(outside, folder / "toy.safetensors")
        config = json.loads((folder / "config.json").read_text())
        more = {"model_type": "toy", "format_version": FORMAT_VERSION, "provenance": provenance or {}}
        (folder / "config.json").write_text(json.dumps({**config, **more, **self.identity()}))
        self.source = str(folder.resolve())

    def load_trained(self, folder, settings):
        self.adopt_settings(folder, settings)
        load_parts(self, folder)

    def adopt_settings(self, folder, settings):
        check_version(folder, settings)
        self.digests = settings["digests"]

    def _ids(self, text):
        start = [self.tokenizer.bos_token_id] if text.startswith("<s>") else []
        return start + self.tokenizer(text.removeprefix("<s>"), add_special_tokens=False).input_ids


def toy(dtype=torch.float64, seed=3):
    """A model of the family with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Toy(tiny_language_model("llama-gqa"), byte_tokenizer()).to(dtype).eval()


def load(folder, settings, device, dtype):
    model = Toy(tiny_language_model("llama-gqa"), byte_tokenizer())
    model.language_model.load_state_dict(load_file(folder / "model.safetensors"))
    model.load_state_dict(load_file(folder / "toy.safetensors"), strict=False)
    model.digests = settings["digests"]
    return model.to(device, dtype)


def skeleton(folder, settings):
    with init_empty_weights(include_buffers=False):
        model = Toy(LlamaForCausalLM(LlamaConfig.from_dict(settings)), byte_tokenizer())
    model.digests = settings["digests"]
    return model


def tokenizer(folder, settings):
    return byte_tokenizer()
