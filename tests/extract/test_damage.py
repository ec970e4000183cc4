"""Damaged, cut, mislabelled and odd files: each its own plain reason, or exactly what can still be decoded."""

from __future__ import annotations

import json
import wave

import av
import numpy as np
import pytest

from avem.errors import MediaError
from avem.extract.decode import media
from avem.extract.decode.media import read_sound, read_video
from tests.extract.barcode_kit import codes, ffmpeg, needs_ffmpeg, spread, tone, write_barcodes


@pytest.fixture(scope="session")
def cases(shared):
    folder = shared / "cases" / "media"
    if not folder.is_dir():
        pytest.skip("the files that broke it (../shared/cases) are not here")
    return folder


def test_every_case_has_its_right_frames(cases):
    expected = json.loads((cases / "expected.json").read_text())
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("read_code", cases.parent / "read_code.py")
    reader = module_from_spec(spec)
    spec.loader.exec_module(reader)
    for name, right in expected.items():
        found = read_video(cases / name, 8)
        assert (name, found.total) == (name, right["decodable"])
        assert (name, [reader.read_code(frame) for frame in found.frames]) == (name, right["frames"])


CUT = {
    "mp4": ("libx264", "aac", {}),
    "fast.mp4": ("libx264", "aac", {"movflags": "faststart"}),
    "pieces.mp4": ("libx264", "aac", {"movflags": "frag_keyframe+empty_moov"}),
    "mov": ("mpeg4", "aac", {}),
    "mkv": ("libx264", "aac", {}),
    "webm": ("libvpx", "libopus", {}),
    "live.webm": ("libvpx", "libopus", {"live": "1"}),
    "avi": ("mpeg4", "mp3", {}),
    "ts": ("libx264", "aac", {}),
    "flv": ("libx264", "aac", {}),
    "wmv": ("msmpeg4v3", "mp3", {}),
    "mpg": ("mpeg2video", "mp2", {}),
}


@pytest.mark.parametrize("name", CUT)
def test_a_film_cut_off_at_60_per_cent_is_refused(tmp_path, name):
    codec, sound, options = CUT[name]
    whole = write_barcodes(tmp_path / f"whole.{name}", codec=codec, b_frames=0, sound=sound, container_options=options)
    assert codes(read_video(whole, 8).frames) == spread(list(range(60)))
    assert 2.2 < read_sound(whole).duration_s < 2.6
    data = whole.read_bytes()
    cut = tmp_path / f"cut.{name}"
    cut.write_bytes(data[: int(0.6 * len(data))])
    for read in (lambda: read_video(cut, 8), lambda: read_sound(cut)):
        with pytest.raises(MediaError, match=r"cut\..*can't be decoded: it is truncated.*again\."):
            read()


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "m4a", "ogg", "opus", "aac", "wma", "aiff"])
def test_sound_cut_off_at_60_per_cent_is_refused(tmp_path, suffix):
    source = tmp_path / "source.wav"
    with wave.open(str(source), "wb") as file:
        file.setparams((2, 2, 48000, 0, "NONE", ""))
        file.writeframes((tone(3.0).T * 32767).astype(np.int16).tobytes())
    whole = tmp_path / f"whole.{suffix}"
    ffmpeg("-i", source, *(("-c:a", "libvorbis") if suffix == "ogg" else ()), whole)
    assert read_sound(whole).duration_s == pytest.approx(3.0, abs=0.1)
    data = whole.read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(data[: int(0.6 * len(data))])
    with pytest.raises(MediaError, match=r"truncated"):
        read_sound(tmp_path / f"cut.{suffix}")


def test_of_a_film_that_lacks_its_last_bytes_the_rest_is_decoded(tmp_path):
    whole = write_barcodes(tmp_path / "whole.mp4", gop=1, b_frames=0, container_options={"movflags": "faststart"})
    data = whole.read_bytes()
    whole.write_bytes(data[: int(0.95 * len(data))])
    found = read_video(whole, 8)
    assert 54 <= found.total < 60
    assert codes(found.frames) == spread(list(range(found.total)))


def damage_packets(path, numbers):
    """Overwrite the bytes of some video packets."""
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number in numbers:
        at, size = packets[number]
        data[at : at + size] = b"\xff" * size
    path.write_bytes(data)


def test_one_bad_packet_costs_its_frames_not_the_clip(tmp_path):
    path = write_barcodes(tmp_path / "clip.mp4", frames=250, gop=1, b_frames=0, sound="aac")
    damage_packets(path, [100])
    found = read_video(path, 8)
    kept = [number for number in range(250) if number != 100]
    assert (found.total, found.lost) == (249, 1)
    assert codes(found.frames) == spread(kept)


def test_many_bad_packets_cost_the_clip(tmp_path):
    path = write_barcodes(tmp_path / "clip.mp4", frames=60, gop=1, b_frames=0)
    damage_packets(path, range(10, 30))
    with pytest.raises(MediaError, match="damaged: only 40 of its 60 frames"):
        read_video(path, 8)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_bad_packet_in_a_long_clip_is_noticed_where_packets_are_skipped(tmp_path, codec):
    path = write_barcodes(tmp_path / "clip.mp4", frames=700, gop=20, b_frames=2, codec=codec)
    assert codes(read_video(path, 8).frames) == spread(list(range(700)))
    with av.open(str(path)) as container:
        numbers = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    last_of_group = max(number for number, key in enumerate(numbers) if key and number < 300) - 1
    damage_packets(path, [last_of_group])
    found = read_video(path, 8)
    assert found.total in (699, 700)  # HEVC shows a frame in place of one that it can't decode
    with av.open(str(path)) as container:
        assert found.total == sum(1 for packet in container.demux(video=0) for _ in tolerant(packet))


def tolerant(packet):
    try:
        return packet.decode()
    except av.FFmpegError:
        return []


def test_plain_reasons(tmp_path):
    contents = {
        "empty.mp4": (b"", "is empty"),
        "pointer.mp4": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        "text.avi": (b"no film\n" * 99, "can't be decoded"),
    }
    for name, (content, reason) in contents.items():
        (tmp_path / name).write_bytes(content)
        for read in (lambda path: read_video(path, 8), read_sound):
            with pytest.raises(MediaError, match=reason):
                read(tmp_path / name)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sound_that_is_no_number(tmp_path, value):
    path = tmp_path / "clip.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=16000, layout="mono")
        samples = np.full((1, 16000), 0.1, np.float32)
        samples[0, 5000] = value
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
    with pytest.raises(MediaError, match="not a number"):
        read_sound(path)


def test_a_cover_is_no_film(tmp_path, cases):
    with pytest.raises(MediaError, match="only a cover picture"):
        read_video(cases / "cover.m4a", 8)
    for cover in ("first", "last"):
        path = write_barcodes(tmp_path / f"{cover}.mkv", cover=cover, sound="aac")
        assert codes(read_video(path, 8).frames) == spread(list(range(60)))
    (tmp_path / "still.mp4").write_bytes(jpeg())
    with pytest.raises(MediaError, match="single picture"):
        read_video(tmp_path / "still.mp4", 8)


def jpeg() -> bytes:
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = 64, 64, "yuvj420p"
    from fractions import Fraction

    context.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24").reformat(format="yuvj420p")
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode()])


def test_a_span_has_the_frames_shown_in_it(tmp_path):
    path = write_barcodes(tmp_path / "clip.mp4", frames=100, sound="aac")
    found = read_video(path, 5, span=(1.0, 2.0))
    assert (found.total, codes(found.frames)) == (25, [25, 31, 37, 43, 49])
    assert len(read_sound(path, span=(1.0, 2.5)).samples) == 24000
    with pytest.raises(MediaError, match="no frame that can be decoded between 9 and 12 s"):
        read_video(path, 5, span=(9.0, 12.0))
    with pytest.raises(MediaError, match="no sound between 9 and 12 s"):
        read_sound(path, span=(9.0, 12.0))


def test_decoding_ends_at_its_limit(tmp_path):
    path = write_barcodes(tmp_path / "clip.mp4", sound="aac")
    for read in (lambda: read_video(path, 8, limit_s=0.0), lambda: read_sound(path, limit_s=0.0)):
        with pytest.raises(MediaError, match="took longer than 0 s"):
            read()


def test_decord_ends_at_its_limit(tmp_path, monkeypatch):
    """decord can't be interrupted, so the process that it runs in is killed."""
    path = write_barcodes(tmp_path / "clip.mp4")
    (tmp_path / "decord.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MediaError, match="took longer than 2 s"):
        media.read_video(path, 8, decoder="decord", limit_s=2.0)
