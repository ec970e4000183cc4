"""Decoding gives the frames and the sound that are in the file, and plain words where there are none."""

from __future__ import annotations

import wave

import numpy as np
import pytest

from avem.errors import MediaError
from avem.extract import probe, read_waveform, sample_frames
from avem.extract.decode.media import frame_ids, read_sound, read_video


def levels(frames):
    """Index of each frame, read back from its grey level."""
    return np.round((frames[:, 20:, 20:].mean(axis=(1, 2, 3)) - 20) / 8).astype(int).tolist()


@pytest.mark.parametrize(("total", "count"), [(12, 8), (5, 8), (1, 4), (30, 1), (20, 20)])
def test_frames_are_those_of_a_truncated_linspace(tmp_path, make_clip, total, count):
    path = make_clip(tmp_path / "clip.mp4", frames=total, sound=None)
    frames = sample_frames(path, count)
    assert frames.shape == (count, 48, 64, 3)
    assert frames.dtype == np.uint8
    assert levels(frames) == np.linspace(0, total - 1, count, dtype=int).tolist()


def test_frame_ids_start_and_end_with_the_clip():
    assert frame_ids(100, 8).tolist() == [0, 14, 28, 42, 56, 70, 84, 99]
    assert frame_ids(3, 5).tolist() == [0, 0, 1, 1, 2]


def test_decord_reads_the_same_of_an_easy_file(tmp_path, make_clip):
    pytest.importorskip("decord", reason="decord has no wheel for this platform")
    path = make_clip(tmp_path / "clip.mp4", frames=15)
    frames, sound = read_video(path, 8), read_sound(path)
    other_frames, other_sound = read_video(path, 8, decoder="decord"), read_sound(path, decoder="decord")
    assert (frames.decoder, other_frames.decoder) == ("pyav", "decord")
    assert np.array_equal(frames.frames, other_frames.frames)
    assert (frames.total, frames.fps) == (other_frames.total, other_frames.fps) == (15, 8.0)
    assert (sound.decoder, other_sound.decoder) == ("pyav", "decord")
    assert np.abs(sound.samples - other_sound.samples).max() < 0.02


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_video_is_upright(tmp_path, make_clip, make_rotated, degrees):
    plain = sample_frames(make_clip(tmp_path / "clip.mp4"), 4)
    path = make_rotated(tmp_path / "clip.mp4", degrees)
    assert np.array_equal(sample_frames(path, 4), np.rot90(plain, -degrees // 90, axes=(1, 2)))


def test_odd_sizes_and_variable_frame_rate(tmp_path, make_clip):
    odd = make_clip(tmp_path / "odd.mp4", size=(61, 37), pix_fmt="yuv444p", frames=6)
    assert sample_frames(odd, 3).shape == (3, 37, 61, 3)
    varying = make_clip(tmp_path / "vfr.mp4", frames=6, pts=[0, 40, 500, 510, 1500, 1600])
    assert levels(sample_frames(varying, 6)) == list(range(6))


def test_sound_is_mono_16_khz_of_one_to_thirty_seconds(tmp_path, make_clip):
    short = read_waveform(make_clip(tmp_path / "short.mp4", frames=2, sound_s=0.2))
    assert short.shape == (16000,)
    assert short.dtype == np.float32
    assert not short[5000:].any()
    with wave.open(str(tmp_path / "long.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 31 * 16000))
    assert read_waveform(tmp_path / "long.wav").shape == (480000,)
    sound = read_waveform(make_clip(tmp_path / "tone.mp4", frames=16, sound=0.5))
    spectrum = np.abs(np.fft.rfft(sound[4000:20000]))
    assert np.argmax(spectrum) == 220
    assert sound.max() == pytest.approx(0.5, abs=0.05)


def test_of_a_ten_minute_clip_frames_are_of_all_of_it_and_sound_of_the_beginning(long_clip):
    assert probe(long_clip).duration_s == pytest.approx(600, abs=31)
    assert levels(sample_frames(long_clip, 5)) == [0, 5, 10, 15, 20]
    assert read_waveform(long_clip).shape == (480_000,)


def test_sound_of_the_reference_wav_files(golden):
    expected = np.load(golden / "whisper" / "io.npz")["waveform"]
    sound = read_waveform(golden / "whisper" / "clip_mono.wav")
    assert sound.shape == expected.shape
    assert np.abs(sound - expected).max() < 1e-4
    assert read_waveform(golden / "whisper" / "clip_short_stereo.wav").shape == (16000,)


def test_silence_is_sound(tmp_path, make_clip):
    assert np.abs(read_waveform(make_clip(tmp_path / "silent.mp4", sound=0.0))).max() < 1e-4


def test_names_in_any_script_and_of_any_length(tmp_path, make_clip):
    source = make_clip(tmp_path / "plain.mp4")
    for name in ("Gefühl ärgerlich 怒り 😀.mp4", "x" * 251 + ".mp4", "with 'quotes' and %d.mp4"):
        copy = tmp_path / name
        copy.write_bytes(source.read_bytes())
        assert np.array_equal(sample_frames(copy, 4), sample_frames(source, 4))
        assert np.array_equal(read_waveform(copy), read_waveform(source))


def broken_files(folder, make_clip):
    """Files that can't be decoded, each with the word that its error must have."""
    whole = make_clip(folder / "whole.mp4", frames=60, size=(128, 128))
    fast = make_clip(folder / "fast.mp4", frames=60, size=(128, 128), faststart=True)
    contents = {
        "empty": b"",
        "text": b"this is no film\n" * 50,
        "truncated": whole.read_bytes()[:3000],
        "cut_inside": fast.read_bytes()[:6000],
    }
    for name, content in contents.items():
        (folder / f"{name}.mp4").write_bytes(content)
    (folder / "folder.mp4").mkdir()
    return {
        "empty": "empty",
        "text": "can't be decoded",
        "truncated": "can't be decoded",
        "cut_inside": "decoded",
        "folder": "not a file",
        "missing": "can't be read",
    }


def test_broken_files_are_named_with_the_reason(tmp_path, make_clip):
    for name, word in broken_files(tmp_path, make_clip).items():
        for read in (lambda path: sample_frames(path, 8), read_waveform):
            with pytest.raises(MediaError, match=word) as caught:
                read(tmp_path / f"{name}.mp4")
            assert f"{name}.mp4" in str(caught.value)
            assert "\n" not in str(caught.value)


def test_a_missing_stream_is_named(tmp_path, make_clip, shared, golden):
    for path in (make_clip(tmp_path / "mute.mp4", sound=None), shared / "data" / "odd" / "no_audio_stream.mp4"):
        with pytest.raises(MediaError, match="no audio stream"):
            read_waveform(path)
        assert not probe(path).has_audio
    with pytest.raises(MediaError, match="no video stream"):
        sample_frames(golden / "whisper" / "clip_mono.wav", 4)


def test_probe_reads_the_header(tmp_path, make_clip):
    info = probe(make_clip(tmp_path / "clip.mp4", frames=12, fps=8))
    assert (info.frames, info.fps, info.has_audio) == (12, 8.0, True)
    assert info.duration_s == pytest.approx(1.5, abs=0.1)
    (tmp_path / "text.mp4").write_text("no")
    with pytest.raises(MediaError, match="media file"):
        probe(tmp_path / "text.mp4")
