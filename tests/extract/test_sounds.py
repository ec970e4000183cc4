"""Sound equals ffmpeg's, on the picture's clock."""

from __future__ import annotations

import av
import numpy as np
import pytest

from avem.extract.decode.media import read_sound
from tests.extract.barcode_kit import ffmpeg_sound, needs_ffmpeg, write_barcodes


@needs_ffmpeg
@pytest.mark.parametrize(
    ("suffix", "sound"), [("mp4", "aac"), ("mkv", "libopus"), ("avi", "mp3"), ("ts", "aac"), ("mov", "pcm_s16le")]
)
def test_samples_are_those_of_ffmpeg(tmp_path, suffix, sound):
    path = write_barcodes(tmp_path / f"clip.{suffix}", frames=50, sound=sound)
    right, found = ffmpeg_sound(path), read_sound(path)
    assert abs(len(right) - round(found.duration_s * 16000)) <= 1
    length = min(len(right), len(found.samples))
    assert length > 31000
    assert np.abs(right[:length] - found.samples[:length]).max() < 1e-5
    assert not found.silent


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
def test_sound_that_starts_late_is_preceded_by_silence(tmp_path, suffix):
    path = write_barcodes(tmp_path / f"clip.{suffix}", frames=75, sound="aac", sound_from_s=1.0)
    samples = read_sound(path).samples
    assert np.abs(samples[:14000]).max() < 1e-3
    assert np.abs(samples[17000:20000]).max() > 0.2


def test_a_gap_is_silence(tmp_path):
    """Half a second of packets is left out of a copy; what follows stays where it was."""
    whole = write_barcodes(tmp_path / "whole.mkv", frames=75, sound="aac")
    path = tmp_path / "gap.mkv"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            at_s = float((packet.pts or 0) * packet.time_base)
            if packet.size and not (packet.stream.type == "audio" and 1.0 <= at_s < 1.5):
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    right, found = read_sound(whole).samples, read_sound(path).samples
    assert not found[16800:23500].any()
    lags = range(-40, 41)  # Matroska's stamps are of milliseconds, 16 samples
    products = [float(right[26000:40000] @ found[26000 + lag : 40000 + lag]) for lag in lags]
    assert abs(lags[int(np.argmax(products))]) <= 17
    assert np.abs(right[:15000] - found[:15000]).max() < 1e-5


def test_silence_is_noticed(tmp_path):
    path = tmp_path / "silent.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 32000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
    found = read_sound(path)
    assert (found.silent, found.duration_s) == (True, 2.0)
