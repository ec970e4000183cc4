"""Windows are ordinary clips of a store; negatives, data rows and held-out shares know what they are part of."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from avem.cache import FeatureStore, StoreWriter, mine_negatives
from avem.cache.negatives.population import load_population
from avem.cache.windows import named_windows, whole_ids
from avem.errors import SettingError, UnknownClipError
from avem.records import InstructionRow, Modality
from avem.tools.prefs.checks.leaks import ClipFacts, leak_faults
from avem.train.data.examples import instruction_examples
from avem.train.run.training import split
from tests.cache.helpers import audio_spec, clip_records, row_values, video_spec, write_pending


@pytest.fixture
def store(tmp_path):
    """Four clips without a source; the first is there whole and as three windows, the last as two windows alone."""
    whole = [replace(record, source="") for record in clip_records(4)]
    parts = [
        replace(
            record,
            clip_id=f"{record.clip_id}@{start}-{start + 30}",
            source=record.clip_id,
            start_s=float(start),
            end_s=float(start + 30),
        )
        for record, starts in ((whole[0], (0, 30, 60)), (whole[3], (0, 30)))
        for start in starts
    ]
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips([*whole[:3], *parts], root=tmp_path)
    for spec in (video_spec(), audio_spec()):
        write_pending(writer, spec)
    writer.finish()
    return FeatureStore.open(tmp_path / "cache")


def test_a_row_is_a_window_by_its_columns_not_by_its_name(store, tmp_path):
    assert whole_ids(store.clips) == ["toy/000", "toy/001", "toy/002", *["toy/000"] * 3, *["toy/003"] * 2]
    writer = StoreWriter.open(tmp_path / "other")
    writer.add_clips([replace(clip_records(1)[0], clip_id="toy/say@0-30")], root=tmp_path)
    assert whole_ids(writer.clips) == ["toy/say@0-30"]


def test_clips_of_one_source_are_no_negatives_of_each_other_however_they_are_held(store):
    # A label that differs from window to window, so that nothing but the source keeps them apart.
    ids = store.clips["clip_id"].to_pylist()
    labels = {kind: {name: ("anger", "fear")[n % 2] for n, name in enumerate(ids)} for kind in ("video", "audio")}
    list(mine_negatives(store, "random-emotion", 8, 0, duplicate_cosine=2.0, labels=labels))
    owners = whole_ids(store.clips)
    for modality in ("video", "audio"):
        table = store.negatives("random-emotion", modality)
        assert (table >= 0).any()
        for row, others in enumerate(table):
            assert all(owners[row] != owners[other] for other in others if other >= 0)


def test_a_window_without_a_label_has_its_clips(store):
    labels = {"video": {"toy/000": "joy", "toy/001": "grief", "toy/000@30-60": "rage"}}
    found = load_population(store, "video", labels=labels)
    assert found.emotions.tolist() == ["joy", "grief", "", "joy", "rage", "joy", "", ""]


def test_a_row_that_names_a_clip_held_as_windows_alone_gets_their_names(store):
    builder = SimpleNamespace(
        takes=(True, True),
        check=lambda *_: None,
        special=(),
        lacking=lambda *_: [],
        available=store.available,
        shows_subtitles=False,
        subtitle=lambda _: None,
    )
    row = InstructionRow("r1", "toy/003", Modality.VISUAL, "t", "What?", "That.")
    expected = "names the clip toy/003, .*windows toy/003@0-30, toy/003@30-60; name one of them"
    with pytest.raises(UnknownClipError, match=expected):
        instruction_examples([row], store, builder)
    assert instruction_examples([replace(row, clip_id="toy/003@30-60")], store, builder)[0].clip == 7
    assert instruction_examples([replace(row, clip_id="toy/000")], store, builder)[0].clip == 0
    with pytest.raises(UnknownClipError, match=r"toy/9, which the store does not hold\.$"):
        instruction_examples([replace(row, clip_id="toy/9")], store, builder)
    names = [f"a@{start}-{start + 30}" for start in range(0, 300, 30)]
    assert named_windows("a", reversed(names)).startswith("the store holds it as the windows a@0-30, a@30-60, a@60-90")


def test_windows_of_a_clip_are_held_out_together(store):
    examples = [SimpleNamespace(clip=row) for row in range(len(store))]
    owners = whole_ids(store.clips)
    divided = 0
    for seed in range(20):
        session = SimpleNamespace(config=SimpleNamespace(holdout=0.5, seed=seed), store=store)
        try:
            kept, held = split(examples, session)
        except SettingError:  # all clips fell on one side
            continue
        divided += 1
        assert {owners[example.clip] for example in kept}.isdisjoint(owners[example.clip] for example in held)
    assert divided > 10


def test_a_clip_of_a_benchmark_stands_for_all_its_windows(store, tmp_path):
    benchmark = tmp_path / "bench.json"
    benchmark.write_text(
        '[{"id": "q", "video": "clips/003.mp4", "task": "t", "question": "?", "choices": ["(A) a", "(B) b"], '
        '"answer": "A"}]'
    )
    facts = ClipFacts.read([tmp_path / "cache"])
    rows = [
        (line, SimpleNamespace(clip_id=name, provenance={}, modality=Modality.VISUAL))
        for line, name in enumerate(("toy/001", "toy/003@0-30", "toy/003@30-60", "toy/000@0-30", "toy/000"), start=1)
    ]
    found = leak_faults(rows, [benchmark], facts)
    assert [(fault.line, fault.kind) for fault in found] == [(2, "leak"), (3, "leak")]


def test_the_store_remembers_what_long_clips_become(tmp_path):
    writer = StoreWriter.open(tmp_path / "cache")
    assert writer.long == {}
    writer.remember_long({"a", "b"}, "windows")
    writer.remember_long({"b"}, "cut")
    assert StoreWriter.open(tmp_path / "cache").long == {"a": "windows", "b": "cut"}


def test_features_of_windows_are_read_like_any_others(store):
    rows = store.rows(["toy/003@30-60", "toy/000@0-30"])
    expected, _ = row_values(video_spec(), rows.tolist())
    np.testing.assert_allclose(store.video(rows).float().numpy(), expected, atol=1e-2)
