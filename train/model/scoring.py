"""Log-probabilities of responses, with every distinct prefix computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from avem.errors import PromptError, SettingError
from avem.train.model.embedding import MediaTokens, embed_atoms
from avem.train.model.layers.float32 import float32_logits, float32_stream, in_float32
from avem.train.model.positions import model_positions, tree_positions
from avem.train.model.sequences import MediaBank, ScoredSequence
from avem.train.prefix.attention import prepared_mask
from avem.train.prefix.flex import tree_attention
from avem.train.prefix.tree import PrefixTree, build_tree

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from avem.train.families.base import FamilyModel

ATTENTION_LAYERS = {"full_attention", "sliding_attention"}
"""Layer types, as transformers names them, that can share prefixes (windows while they hold a whole sequence)."""
OTHER_LAYERS = (
    "{} does not run all its layers through transformers' attention interface, which prefix sharing needs; "
    "score with share_prefixes=False."
)


@dataclass(frozen=True, slots=True)
class Targets:
    """Which logits are needed, and what is read from them."""

    positions: list[int]
    """Distinct packed positions that predict a response token."""
    rows: list[int]
    """For each response token the index into `positions`."""
    tokens: list[int]
    """Its id."""
    owners: list[int]
    """The sequence it belongs to."""


def response_logprobs(
    model: FamilyModel, sequences: Sequence[ScoredSequence], *, share_prefixes: bool = True
) -> torch.Tensor:
    """Sum of the log-probabilities of each sequence's response tokens.

    Args:
        model: A `FamilyModel`.
        sequences: At least one response token each.
        share_prefixes: Compute common prefixes once, in one packed row; otherwise each sequence by itself.

    Returns:
        float32 `[n]` (float64 where the model is float64), differentiable.

    Raises:
        PromptError: A sequence has no response or does not fit the context.
        SettingError: The language model's attention can't share prefixes.
    """
    for number, sequence in enumerate(sequences):
        if sequence.response_start >= len(sequence.ids):
            raise PromptError(f"Sequence {number} has no response to score.")
    if not sequences:
        return torch.zeros(0, device=model.device)
    bank = MediaBank()
    atoms = [bank.atomise(sequence, model.pieces) for sequence in sequences]
    media = model.project_bank(bank)
    for path in atoms:
        model.check_length(sum(media.size_of(atom) for atom in path))
    scored = [_scored(sequence) for sequence in sequences]
    with float32_logits(model.language_model), float32_stream(model):
        if share_prefixes:
            return _score_tree(model, atoms, scored, media)
        return torch.cat([_score_one(model, path, kept, media) for path, kept in zip(atoms, scored, strict=True)])


def _scored(sequence: ScoredSequence) -> list[int]:
    """Indices of the response tokens that count."""
    return [index for index in range(sequence.response_start, len(sequence.ids)) if index not in sequence.uncounted]


def _score_tree(
    model: FamilyModel, atoms: list[list[int]], scored: list[list[int]], media: MediaTokens
) -> torch.Tensor:
    """Score all sequences in one packed row."""
    check_layers(model.language_model)
    inputs = [path[:-1] for path in atoms]  # nothing is predicted from the last token
    tree = build_tree(inputs, media.size_of)
    targets = find_targets(tree, atoms, scored, media)
    attention = tree_attention(tree, model.device)
    row = [atom for number in tree.order for atom in tree.nodes[number].atoms]
    positions = tree_positions(model.positions, tree, media.piece_of)  # as in each sequence by itself
    logits = model.logits(
        in_float32(embed_atoms(model, row, media)[None]),  # [1, S, H], every distinct prefix once
        torch.tensor(targets.positions, device=model.device),
        model_positions(positions[:, None], model.device),  # [1, S], or [axes, 1, S]
        attention_mask=prepared_mask(model.device),
        use_cache=False,
        prefix_tree=attention,
        **model.extra_inputs([row], media, tree.positions),
    )[0]  # [R, V]: only positions that predict a response token
    if attention.layers != model.language_model.config.get_text_config().num_hidden_layers:
        raise SettingError(OTHER_LAYERS.format(type(model.language_model).__name__))
    return _sum_logprobs(logits, targets, len(atoms))


def check_layers(language_model: PreTrainedModel) -> None:
    """Refuse layers that carry a state along the row instead of attending to positions."""
    config = language_model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ATTENTION_LAYERS)
    if kinds - ATTENTION_LAYERS or not getattr(config, "num_attention_heads", None):
        raise SettingError(OTHER_LAYERS.format(type(language_model).__name__))


def _score_one(model: FamilyModel, atoms: list[int], scored: list[int], media: MediaTokens) -> torch.Tensor:
    """Score one sequence by itself: `[1]`."""
    embeddings = in_float32(embed_atoms(model, atoms[:-1], media)[None])  # [1, S - 1, H]
    count, length = len(scored), embeddings.shape[1]
    after = len(atoms) - length  # from an index among the atoms to one among the positions, behind all media
    targets = Targets(
        [index - after for index in scored], list(range(count)), [atoms[index] for index in scored], [0] * count
    )
    logits = model.logits(
        embeddings,
        torch.tensor(targets.positions, device=model.device),
        model.position_ids(atoms[:-1], media),
        use_cache=False,
        **model.extra_inputs([atoms[:-1]], media, length),
    )[0]  # [count, V]
    return _sum_logprobs(logits, targets, 1)


def find_targets(tree: PrefixTree, atoms: list[list[int]], scored: list[list[int]], media: MediaTokens) -> Targets:
    """Find the packed position that predicts each response token.

    Args:
        tree: Tree of the sequences without their last atom.
        atoms: The complete sequences.
        scored: Indices of each sequence's response atoms that count.
        media: Gives the size of each atom.
    """
    index: dict[int, int] = {}
    rows, tokens, owners = [], [], []
    for owner, (path, indices) in enumerate(zip(atoms, scored, strict=True)):
        wanted = set(indices)
        for number in tree.path(tree.leaves[owner]):
            node = tree.nodes[number]
            position = node.start
            for offset, atom in enumerate(node.atoms):
                position += media.size_of(atom)
                target = node.first_atom + offset + 1
                if target in wanted:
                    rows.append(index.setdefault(position - 1, len(index)))
                    tokens.append(path[target])
                    owners.append(owner)
    return Targets(list(index), rows, tokens, owners)


def _sum_logprobs(logits: torch.Tensor, targets: Targets, count: int) -> torch.Tensor:
    """From logits `[R, V]` at the targets' positions to sums `[count]`."""
    if logits.dtype != torch.float64:
        logits = logits.float()
    rows = torch.tensor(targets.rows, device=logits.device)  # [response tokens], like the next two
    tokens = torch.tensor(targets.tokens, device=logits.device)
    owners = torch.tensor(targets.owners, device=logits.device)
    chosen = logits[rows, tokens] - logits.logsumexp(-1)[rows]  # log pi(token | before), [response tokens]
    return torch.zeros(count, dtype=logits.dtype, device=logits.device).index_add(
        0, owners, chosen
    )  # log pi(y|a,v,x), [count]
