"""Checksums of records and folders: what was written passes, and no flipped bit does."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avem.errors import DataError
from avem.sealed.checksums import (
    CHECKSUMS,
    check_folder,
    crc32c,
    file_crc32c,
    seal,
    sealed_lines,
    unseal,
    write_checksums,
)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
values = scalars | st.lists(scalars, max_size=3)


def test_crc32c_is_castagnoli():
    assert crc32c(b"123456789") == "e3069283"  # the check value of CRC-32C's definition (RFC 3720, B.4)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["id", "answer", "n", "ü"]), values))
def test_a_sealed_record_comes_back_through_json(record):
    assert unseal(json.loads(json.dumps(seal(record))), "here") == record


def test_every_flipped_bit_of_a_line_is_noticed():
    line = sealed_lines([{"id": "q1", "answer": "(A) Yes", "logprobs": {"A": -0.25, "B": -1.5}}]).encode()
    for bit in range(8 * (len(line) - 1)):
        flipped = bytearray(line)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            record = json.loads(bytes(flipped))
        except ValueError:
            continue
        with pytest.raises(DataError, match="here"):
            unseal(record, "here")


def test_a_record_from_before_checksums_passes():
    assert unseal({"id": "q1"}, "here") == {"id": "q1"}


def test_a_folder_whose_file_changed_or_went_is_named(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.bin").write_bytes(b"abc")
    (tmp_path / "sub" / "b.bin").write_bytes(b"")
    check_folder(tmp_path)  # no list yet
    write_checksums(tmp_path)
    check_folder(tmp_path)
    assert file_crc32c(tmp_path / "a.bin") == crc32c(b"abc")
    (tmp_path / "a.bin").write_bytes(b"abd")
    with pytest.raises(DataError, match=r"a\.bin"):
        check_folder(tmp_path)
    check_folder(tmp_path, ["sub/b.bin"])
    (tmp_path / "sub" / "b.bin").unlink()
    with pytest.raises(DataError, match=r"b\.bin"):
        check_folder(tmp_path, ["sub/b.bin"])
    (tmp_path / CHECKSUMS).write_text("[]")
    with pytest.raises(DataError, match=CHECKSUMS):
        check_folder(tmp_path)
