"""Answers by greedy or sampled decoding with a key-value cache; prompts on one clip share the media's computation."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache

from avem.errors import SettingError
from avem.train.model.embedding import MediaTokens, embed_atoms, embedding_table
from avem.train.model.positions import State, model_positions, row_positions, walk
from avem.train.model.sequences import MediaBank, ScoredSequence

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from avem.train.families.base import FamilyModel


@dataclass(frozen=True, slots=True)
class Batch:
    """Prompts decoded together: a shared beginning, computed once, and each prompt's rest."""

    numbers: list[int]
    prefix: list[int]
    """Atoms that all begin with; may be empty."""
    rests: list[list[int]]
    """Atoms after them, at least one each."""


@torch.no_grad()
def generate(
    model: FamilyModel,
    prompts: Sequence[ScoredSequence],
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    batch_size: int = 16,
) -> list[str]:
    """Answer prompts.

    Args:
        model: A `FamilyModel`.
        prompts: As `FamilyModel.prompt` makes them.
        max_new_tokens: Longest answer in tokens.
        temperature: 0 takes the likeliest token each time; otherwise tokens are sampled.
        top_p: Sample among the likeliest tokens that together have this probability.
        seed: Decides the samples.
        batch_size: Prompts decoded together.

    Returns:
        The answers as text, special tokens and outer white space removed.

    Raises:
        PromptError: A prompt and its answer do not fit the context.
        SettingError: A number is out of range.
    """
    new = generate_ids(
        model, prompts, max_new_tokens, temperature=temperature, top_p=top_p, seed=seed, batch_size=batch_size
    )
    return [str(model.tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in new]


@torch.no_grad()
def generate_ids(
    model: FamilyModel,
    prompts: Sequence[ScoredSequence],
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    batch_size: int = 16,
    stop_at_end: bool = True,
) -> list[list[int]]:
    """The same as token ids; with `stop_at_end=False` every answer has `max_new_tokens` tokens."""
    if max_new_tokens < 1 or batch_size < 1 or temperature < 0 or not 0 < top_p <= 1:
        raise SettingError("Generation needs max_new_tokens and batch_size >= 1, temperature >= 0 and 0 < top_p <= 1.")
    bank = MediaBank()
    atoms = [bank.atomise(prompt, model.pieces)[: prompt.response_start] for prompt in prompts]
    media = model.project_bank(bank)
    longest = max((sum(media.size_of(atom) for atom in path) + max_new_tokens for path in atoms), default=0)
    model.check_length(longest)
    ends = _end_ids(model) if stop_at_end else set()
    sampler = _Sampler(temperature, top_p, torch.Generator(model.device).manual_seed(seed))
    answers: list[list[int]] = [[] for _ in prompts]
    # Padding after a shared beginning would push it out of a window that counts positions: models with windows
    # share nothing.
    window = getattr(model.language_model.config.get_text_config(), "sliding_window", None)
    share = window is None or longest <= window
    for batch in make_batches(atoms, batch_size, share=share):
        for number, ids in zip(batch.numbers, _decode(model, batch, media, max_new_tokens, ends, sampler), strict=True):
            answers[number] = ids
    return answers


def make_batches(atoms: list[list[int]], batch_size: int, *, share: bool = True) -> Iterator[Batch]:
    """Group prompts with the same media behind one shared beginning, and single prompts together without one."""
    by_media: dict[tuple[int, ...], list[int]] = {}
    for number, path in enumerate(atoms):
        by_media.setdefault(tuple(atom for atom in path if atom < 0), []).append(number)
    single: list[int] = []
    for numbers in by_media.values():
        for start in range(0, len(numbers), batch_size):
            group = numbers[start : start + batch_size]
            if len(group) == 1 or not share:
                single += group
                continue
            common = _common_length([atoms[number][:-1] for number in group])
            yield Batch(group, atoms[group[0]][:common], [atoms[number][common:] for number in group])
    for start in range(0, len(single), batch_size):
        group = single[start : start + batch_size]
        yield Batch(group, [], [atoms[number] for number in group])


@dataclass(frozen=True, slots=True)
class _Sampler:
    temperature: float
    top_p: float
    generator: torch.Generator

    def choose(self, logits: torch.Tensor) -> torch.Tensor:
        """Next ids `[B]` from logits `[B, V]`."""
        if self.temperature == 0:
            greedy: torch.Tensor = logits.argmax(-1)
            return greedy
        probabilities = (logits.float() / self.temperature).softmax(-1)  # [B, V]
        if self.top_p < 1:
            ordered, order = probabilities.sort(-1, descending=True)
            ordered[ordered.cumsum(-1) - ordered >= self.top_p] = 0  # what is likelier reaches top_p without it
            probabilities = torch.zeros_like(probabilities).scatter(-1, order, ordered)
        drawn: torch.Tensor = torch.multinomial(probabilities, 1, generator=self.generator)
        return drawn[:, 0]


def _decode(
    model: FamilyModel, batch: Batch, media: MediaTokens, max_new_tokens: int, ends: set[int], sampler: _Sampler
) -> list[list[int]]:
    """Decode one batch: the shared beginning once, then the rests padded on the left, then token by token."""
    count = len(batch.numbers)
    cache = DynamicCache(config=model.language_model.config)
    keep = {cache_argument(model.language_model): cache}
    rule = model.positions
    state = rule.begin()
    if batch.prefix:  # [1, P, H]: computed once, then repeated for every answer of the batch
        embeddings = embed_atoms(model, batch.prefix, media)[None]
        ids, state = row_positions(rule, batch.prefix, media.piece_of)
        extra = model.extra_inputs([batch.prefix], media, embeddings.shape[1])
        model.logits(embeddings, 1, model_positions(ids[:, None], model.device), **keep, **extra)
        cache.batch_repeat_interleave(count)
    shared = cache.get_seq_length()
    embeddings, mask = _pad_left([embed_atoms(model, rest, media) for rest in batch.rests])
    extra = model.extra_inputs(batch.rests, media, embeddings.shape[1])
    mask = torch.cat([mask.new_ones(count, shared), mask], 1)  # [B, P + S]
    walked = [walk(rule, state, rest, media.piece_of) for rest in batch.rests]
    positions = _stack_left([torch.cat(parts, 1) for parts, _ in walked])  # [axes, B, S]
    states: list[State] = [after for _, after in walked]
    answers: list[list[int]] = [[] for _ in range(count)]
    open_answers = set(range(count))
    for step in range(max_new_tokens):
        placed = model_positions(positions, model.device)
        logits = model.logits(embeddings, 1, placed, attention_mask=mask, **keep, **extra)[:, -1]  # [B, V]
        chosen = sampler.choose(logits)
        tokens = chosen.tolist()
        for number, token in enumerate(tokens):
            if number in open_answers:
                if token in ends:
                    open_answers.discard(number)
                else:
                    answers[number].append(token)
        if not open_answers or step == max_new_tokens - 1:
            break
        embeddings = embedding_table(model.language_model)(chosen)[:, None]  # [B, 1, H]
        mask = torch.cat([mask, mask.new_ones(count, 1)], 1)
        after = [rule.text(before, [token]) for before, token in zip(states, tokens, strict=True)]
        positions = torch.stack([ids for ids, _ in after], 1)  # [axes, B, 1]
        states, extra = [then for _, then in after], {}
    return answers


def cache_argument(language_model: PreTrainedModel) -> str:
    """What a model's forward pass calls the key-value cache.

    transformers renamed `past_key_values` to `cache` and drops the old name in 5.40; models before that know only it.
    """
    return "cache" if "cache" in inspect.signature(language_model.forward).parameters else "past_key_values"


def _pad_left(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows `[S_i, H]` as one `[B, S, H]` with zeros before the shorter ones, and its mask int64 `[B, S]`."""
    longest = max(len(row) for row in rows)
    padded = rows[0].new_zeros(len(rows), longest, rows[0].shape[1])
    mask = torch.zeros(len(rows), longest, dtype=torch.int64, device=padded.device)
    for number, row in enumerate(rows):
        padded[number, longest - len(row) :] = row
        mask[number, longest - len(row) :] = 1
    return padded, mask


def _stack_left(rows: list[torch.Tensor]) -> torch.Tensor:
    """Position ids `[axes, S_i]` as one `[axes, B, S]`, zeros before the shorter ones."""
    longest = max(row.shape[1] for row in rows)
    return torch.stack([torch.nn.functional.pad(row, (longest - row.shape[1], 0)) for row in rows], 1)


def _common_length(paths: list[list[int]]) -> int:
    shortest = min(len(path) for path in paths)
    return next((i for i in range(shortest) if any(path[i] != paths[0][i] for path in paths)), shortest)


def _end_ids(model: FamilyModel) -> set[int]:
    """Ids that end an answer: the family's, and those that the language model's generation settings name."""
    named = getattr(getattr(model.language_model, "generation_config", None), "eos_token_id", None)
    more = named if isinstance(named, list) else [named]
    return model.end_ids() | {token for token in more if token is not None}
