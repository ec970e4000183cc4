"""Sequences as atoms: each placeholder becomes the piece of media that it stands for."""

import pytest
import torch

from avem.train.model.sequences import AUDIO_ID, VIDEO_FRAME_ID, MediaBank, ScoredSequence

CLIPS = 150


def pieces(sequence, side):
    return range(len(sequence.medium(side)) if side == "video" else 1)


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_media_of_many_clips_in_one_batch(frames):
    """Atoms are numbered -1, -2, ...; one that is numbered as a placeholder is a piece like all others."""
    bank = MediaBank()
    bank.atomise(ScoredSequence([VIDEO_FRAME_ID, 6], torch.zeros(1, 1, 1), None, 1), pieces)
    atoms = []
    for _ in range(CLIPS):
        ids = [5, *[VIDEO_FRAME_ID] * frames, AUDIO_ID, 6]
        sequence = ScoredSequence(ids, torch.zeros(frames, 1, 1), torch.zeros(1, 1), len(ids) - 1)
        atoms.append(bank.atomise(sequence, pieces))
    assert len(bank.atoms) == 1 + CLIPS * (frames + 1) > -AUDIO_ID
    for clip, found in enumerate(atoms):
        assert (found[0], found[-1]) == (5, 6)
        meant = [bank.atoms[-1 - atom] for atom in found[1:-1]]
        assert meant == [*(("video", clip + 1, frame) for frame in range(frames)), ("audio", clip, 0)]


def numbers_of_media(*features):
    bank = MediaBank()
    for one in features:
        bank.atomise(ScoredSequence([VIDEO_FRAME_ID, 6], one, None, 1), pieces)
    return [number for _, number, _ in bank.atoms], len(bank.media["video"])


def test_sequences_share_views_of_one_memory():
    held = torch.zeros(2, 1, 1)
    assert numbers_of_media(held[:1], held[:1]) == ([0], 1)
    assert numbers_of_media(held[:1], held[1:]) == ([0, 1], 2)


def test_tensors_without_an_address_are_media_of_their_own():
    """All of them say that they lie at 0, which once made two clips of one size the same clip."""
    one, other = torch.zeros(1, 1, 1, device="meta"), torch.zeros(1, 1, 1, device="meta")
    assert one.data_ptr() == other.data_ptr() == 0
    assert numbers_of_media(one, other, one) == ([0, 1], 2)
