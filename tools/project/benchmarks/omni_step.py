"""Times one optimiser step of avem on a Qwen2.5-Omni-shaped model against the same step computed plainly.

python -m avem.tools.project.benchmarks.omni_step
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor
from torch.nn import functional

from avem.tools.project.benchmarks.measure import show
from avem.tools.project.benchmarks.omni_kit import FAMILY, Towers, make_kit
from avem.tools.project.benchmarks.plain_step import PlainStep, with_plain_adapters
from avem.tools.project.benchmarks.step import Bench, timed
from avem.tools.project.benchmarks.step_kit import Shape
from avem.train.data.examples import PreferenceExample
from avem.train.model.audiovisual import AudiovisualLM
from avem.train.packing.specs import ScoreSpec
from avem.train.settings.config import Pairing, PreferenceConfig

TOWERS, CACHED = "plain, towers in the loop", "plain, cached scores and features"


class OmniPlainStep(PlainStep):
    """The plain step on a thinker: positions from transformers' `get_rope_index`, padding on the right.

    Args:
        kit: The thinker and the clips.
        model: avem's model with peft's own adapters; only its transformers parts are used.
        rows: What is trained on.
        encode: Gives features by side and store row.
        config: Weights of the objective.
        rows_per_batch: Rows that go through the model together.
        constants: Reference and text scores that are known beforehand; None to compute them in the step.
    """

    def __init__(
        self,
        kit: Towers,
        model: AudiovisualLM,
        rows: Sequence[PreferenceExample],
        encode: Callable[[str, int], Tensor],
        config: PreferenceConfig,
        rows_per_batch: int,
        constants: Mapping[ScoreSpec, float] | None = None,
    ) -> None:
        super().__init__(model, rows, encode, {}, config, rows_per_batch, constants)
        self._kit, self._tokenizer = kit, model.tokenizer
        self._lm = model.language_model
        self._markers = {side: getattr(kit.thinker.config, f"{side}_token_id") for side in ("video", "audio")}

    def _tokens(self, rows: Sequence[PreferenceExample]) -> dict[tuple[int, str, int], Tensor]:
        """Features of each row's own and rejected input, by row, side and clip: each is encoded once."""
        tokens = {}
        for number, row in enumerate(rows):
            for spec in (row.scores["w"], row.scores["w_given_l"]):
                for side, clip in (("video", spec.video), ("audio", spec.audio)):
                    if clip is not None and (number, side, clip) not in tokens:
                        tokens[number, side, clip] = self._encode(side, clip).to(self._lm.device, self._model.dtype)
        return tokens

    def _scores(self, specs: Sequence[ScoreSpec], media: Mapping[tuple[int, str, int], Tensor]) -> Tensor:
        """Summed log-probability of each answer, `[n]`; specs come row by row."""
        per_row = 3 if specs[0].video is None and specs[0].audio is None else 4
        ids, counts, shown = [], [], {"video": [], "audio": []}  # type: ignore[var-annotated]
        for number, spec in enumerate(specs):
            found = {
                side: media[number // per_row, side, clip]
                for side, clip in (("video", spec.video), ("audio", spec.audio))
                if clip is not None
            }
            sequence, count = self._sequence(spec, found)
            ids.append(sequence)
            counts.append(count)
            for side, features in found.items():
                shown[side].append(features)
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)  # [n, S]
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(each) for each in ids], batch_first=True)
        positions = self._positions(padded, mask, len(shown["video"]), len(shown["audio"])).to(self._lm.device)
        padded = padded.to(self._lm.device)
        embeddings = self._lm.get_input_embeddings()(padded)
        for side, all_shown in shown.items():
            if all_shown:
                there = (padded == self._markers[side])[..., None].expand_as(embeddings)
                embeddings = embeddings.masked_scatter(there, torch.cat(all_shown))
        logits = self._lm(inputs_embeds=embeddings, position_ids=positions, use_cache=False).logits
        labels = torch.full_like(padded, -1)
        for number, (sequence, count) in enumerate(zip(ids, counts, strict=True)):
            labels[number, len(sequence) - count : len(sequence)] = sequence[-count:]
        chosen = functional.log_softmax(logits[:, :-1].float(), -1).gather(2, labels[:, 1:, None].clamp(min=0))[..., 0]
        return (chosen * (labels[:, 1:] >= 0)).sum(1)

    def _sequence(self, spec: ScoreSpec, media: Mapping[str, Tensor]) -> tuple[Tensor, int]:
        """Token ids `[S]` as the processor writes them, and how many of them are the answer's."""
        content: list[dict[str, str]] = [{"type": side} for side in ("video", "audio") if side in media]
        content.append({"type": "text", "text": spec.question})
        turns = [{"role": "user", "content": content}]
        prompt = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids: list[int] = []
        for token in self._tokenizer(prompt, add_special_tokens=False).input_ids:
            side = next((side for side, marker in self._markers.items() if marker == token), None)
            ids += [token] * (1 if side is None else len(media[side]))
        answer = self._tokenizer(f"{spec.answer}<|im_end|>", add_special_tokens=False).input_ids
        return torch.tensor(ids + answer), len(answer)

    def _positions(self, ids: Tensor, mask: Tensor, videos: int, sounds: int) -> Tensor:
        """Ids `[3, n, S]` of transformers' own counting."""
        thinker, frames = self._kit.thinker, self._kit.mels.shape[-1]
        found: Tensor = thinker.get_rope_index(
            ids,
            None,
            self._kit.grid.cpu().expand(videos, 3) if videos else None,
            mask,
            False,
            torch.full((sounds,), frames) if sounds else None,
            torch.ones(videos) if videos else None,
        )[0]
        return found


def main(
    width: Annotated[int, typer.Option(help="Width of the language model, a multiple of 448.")] = 448,
    layers: Annotated[int, typer.Option(help="Its layers.")] = 1,
    clips: Annotated[int, typer.Option(help="Clips in the step.")] = 2,
    questions: Annotated[int, typer.Option(help="Questions on a clip.")] = 3,
    rows: Annotated[int, typer.Option(help="Rows of patches in a frame.")] = 26,
    columns: Annotated[int, typer.Option(help="Columns of patches in a frame.")] = 46,
    pairing: Annotated[list[str] | None, typer.Option(help="Repeat. [default: mutual]")] = None,
    towers: Annotated[bool, typer.Option(help="Also time the plain step with towers in the loop.")] = True,
    rows_per_batch: Annotated[int, typer.Option(help="Rows that the plain step takes at once.")] = 2,
    repeats: Annotated[int, typer.Option(help="Timed rounds.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
) -> None:
    """Make clips, a thinker and rows, do the step on all sides, and print times, ratios and losses."""
    torch.set_num_threads(threads)
    pairings: list[Pairing] = list(pairing or ["mutual"])  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        kit = make_kit(Path(folder), Shape(width, layers, clips, questions, 50, 55), (rows, columns))
        bench = Bench.open(kit, pairings[0])
        sides = {f"avem, {name}": bench.avem_side(name) for name in pairings}
        for run in sides.values():
            run()
        plain = [TOWERS, CACHED] if towers else [CACHED]
        sides |= {name: plain_side(bench, kit, name, rows_per_batch) for name in plain}
        seconds, busy = timed(sides, repeats)
        seen, heard = (bench.session.store.stream(side).lengths([0])[0] for side in ("video", "audio"))
    table = []
    for name in sides:
        ratios = [f"{seconds[o] / seconds[name]:.1f}x ({busy[o] / busy[name]:.1f}x)" for o in plain]
        taken = f"{seconds[name]:.2f} s ({busy[name]:.2f} s)"
        difference = abs(bench.losses[name] - bench.losses[CACHED])
        table.append((name, taken, *ratios, f"{bench.losses[name]:.6f}", f"{difference:.1e}"))
    show(
        f"One step on {clips * questions} rows, {questions} on a clip of {seen} video and {heard} audio tokens "
        f"({width} wide, {layers} layers, LoRA, float32; in brackets, processor time)",
        ("side", "seconds (of processor)", *(f"{name} / side" for name in plain), "loss", "difference"),
        table,
    )


def plain_side(bench: Bench, kit: Towers, name: str, rows_per_batch: int) -> Callable[[], None]:
    """The plain step, one of `TOWERS` and `CACHED`."""
    store = bench.session.store

    def stored(side: str, clip: int) -> Tensor:
        features: Tensor = store.stream(f"{side}/{FAMILY}").rows([clip])[0]
        return features

    encode, constants = (kit.encode, None) if name == TOWERS else (stored, bench.constants)
    model = with_plain_adapters(bench.session.model)
    step = OmniPlainStep(kit, model, bench.rows, encode, bench.config, rows_per_batch, constants)

    def run() -> None:
        bench.losses[name] = step()

    return run


if __name__ == "__main__":
    typer.run(main)
