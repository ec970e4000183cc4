"""Synthesises a scene's sound: a voice whose pitch, loudness and pace follow the cues, and a background sound."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, sosfilt

from avem.records import RATE_HZ, Modality
from avem.tools.corpus.scene import Person, Scene

Signal = npt.NDArray[np.float64]

VOWELS_HZ = ((730, 1090), (270, 2290), (530, 1840), (570, 840))
"""First and second formants of four vowels."""


def synthesise(scene: Scene, duration_s: float) -> npt.NDArray[np.float32]:
    """The clip's sound.

    Args:
        scene: What is in it; equal scenes give equal samples.
        duration_s: Length in seconds.

    Returns:
        float32 [round(duration_s * RATE_HZ)], mono, within -1 and 1.
    """
    rng = np.random.default_rng(scene.seed)
    time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    cues = {cue.name for cue in scene.voice_cues}
    sound = _speech(time_s, cues, scene.person, rng)
    for name, event in EVENTS.items():
        if name in cues:
            sound = sound + event(time_s, rng)
    for background in scene.irrelevant(Modality.AUDIO):
        sound = sound + 0.06 * BACKGROUNDS[background.name](time_s, rng)
    sound = sound + 0.0005 * rng.standard_normal(len(time_s))
    return np.clip(sound, -1, 1).astype(np.float32)


def _speech(time_s: Signal, cues: set[str], person: Person, rng: np.random.Generator) -> Signal:
    """Vowels in syllables: the default voice where no cue says otherwise."""
    progress = time_s / time_s[-1]
    pace_hz = 6.5 if "fast" in cues else 1.6 if "slow" in cues else 3.5
    contour = np.ones_like(time_s)
    if "falling" in cues:
        contour = 1.5 - 0.9 * progress
    elif "rising" in cues:
        contour = 0.7 + 1.3 * progress
    elif "monotone" not in cues:
        contour = 1 + 0.12 * np.sin(2 * np.pi * (0.9 * time_s + rng.random()))
    pitch_hz = person.pitch_hz * contour * (2.2 if "high_pitch" in cues else 1.0)
    if "tremor" in cues:
        pitch_hz = pitch_hz * (1 + 0.16 * np.sin(2 * np.pi * 9 * time_s))
    first, second = VOWELS_HZ[rng.integers(len(VOWELS_HZ))]
    sound = _voiced(pitch_hz, (first * person.formants, second * person.formants))
    sound = sound * _syllables(time_s, pace_hz, rng.random())
    if "growl" in cues:
        sound = sound * (0.55 + 0.45 * np.sign(np.sin(2 * np.pi * 38 * time_s)))
    loudness = 0.7 if "loud" in cues else 0.03 if "quiet" in cues else 0.18
    return np.tanh(loudness * 2.5 * sound) if "loud" in cues else loudness * sound


def _voiced(pitch_hz: Signal, formants_hz: tuple[float, float]) -> Signal:
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    sound = np.zeros_like(phase)
    for harmonic in range(1, 24):
        frequency = harmonic * float(pitch_hz.mean())
        if frequency > 4000:
            break
        gain = sum(1 / (1 + ((frequency - formant) / 150) ** 2) for formant in formants_hz) + 0.4 / harmonic
        sound += gain * np.sin(harmonic * phase)
    return sound / float(np.abs(sound).max())


def _syllables(time_s: Signal, rate_hz: float, offset: float) -> Signal:
    return np.clip(np.sin(np.pi * (rate_hz * time_s + offset)) ** 2 * 1.5 - 0.25, 0, 1)


def _bursts(time_s: Signal, rate_hz: float, length_s: float, start_s: float = 0.0, end_s: float = 9.0) -> Signal:
    """Repeated decaying bursts, 1 at each onset."""
    since = np.mod(time_s, 1 / rate_hz)
    return np.exp(-since / length_s) * ((time_s >= start_s) & (time_s < end_s))


def _band(rng: np.random.Generator, count: int, low_hz: float, high_hz: float) -> Signal:
    """Noise between two frequencies, unit peak."""
    sos = butter(4, (low_hz, high_hz), "bandpass", fs=RATE_HZ, output="sos")
    noise: Signal = sosfilt(sos, rng.standard_normal(count))
    return noise / float(np.abs(noise).max())


def _laughter(time_s: Signal, rng: np.random.Generator) -> Signal:
    return 0.5 * _bursts(time_s, 5.0, 0.06, 1.0) * _voiced(320 - 60 * np.mod(time_s, 1.0), (900, 1400))


def _sobbing(time_s: Signal, rng: np.random.Generator) -> Signal:
    wail = _voiced(420 - 220 * np.mod(time_s * 1.6, 1.0), (500, 1000))
    return 0.35 * np.clip(np.sin(2 * np.pi * 1.6 * time_s), 0, 1) * wail


def _thuds(time_s: Signal, rng: np.random.Generator) -> Signal:
    return 0.9 * _bursts(time_s, 2.0, 0.05) * np.sin(2 * np.pi * 60 * time_s)


def _gasp(time_s: Signal, rng: np.random.Generator) -> Signal:
    swell = np.clip((time_s - 0.2) / 0.35, 0, 1) * (time_s < 0.6)
    return 0.5 * swell * _band(rng, len(time_s), 1500, 6000)


def _long_oh(time_s: Signal, rng: np.random.Generator) -> Signal:
    return 0.4 * ((time_s > 1.2) & (time_s < 2.2)) * _voiced(np.full_like(time_s, 240.0), (450, 750))


def _groan(time_s: Signal, rng: np.random.Generator) -> Signal:
    return 0.5 * ((time_s > 0.8) & (time_s < 1.9)) * _voiced(85 - 10 * time_s, (300, 600))


def _cough(time_s: Signal, rng: np.random.Generator) -> Signal:
    return 0.7 * _bursts(time_s, 3.0, 0.04, 0.3, 1.3) * _band(rng, len(time_s), 300, 1500)


def _hiss(time_s: Signal, rng: np.random.Generator) -> Signal:
    return 0.4 * ((time_s > 1.4) & (time_s < 2.3)) * _band(rng, len(time_s), 5000, 7500)


def _scream(time_s: Signal, rng: np.random.Generator) -> Signal:
    return 0.6 * ((time_s > 0.9) & (time_s < 1.7)) * _voiced(900 + 60 * np.sin(40 * time_s), (1200, 2800))


def _breaths(time_s: Signal, rng: np.random.Generator) -> Signal:
    return 0.35 * np.clip(np.sin(2 * np.pi * 2.5 * time_s), 0, 1) * _band(rng, len(time_s), 800, 3000)


def _hum(time_s: Signal, rng: np.random.Generator) -> Signal:
    return np.sin(2 * np.pi * 180 * time_s) * (0.3 * (time_s > 1.0).astype(np.float64))


EVENTS = {
    "laughter": _laughter,
    "sobbing": _sobbing,
    "thuds": _thuds,
    "gasp": _gasp,
    "long_oh": _long_oh,
    "groan": _groan,
    "cough": _cough,
    "hiss": _hiss,
    "scream": _scream,
    "breaths": _breaths,
    "hum": _hum,
}
"""Cues that are sounds of their own besides the speech."""


def _music(time_s: Signal, rng: np.random.Generator) -> Signal:
    chord = np.stack([np.sin(2 * np.pi * pitch * time_s) for pitch in (523.25, 659.25, 783.99)])
    return np.asarray(chord.mean(axis=0), dtype=np.float64)


def _rain(time_s: Signal, rng: np.random.Generator) -> Signal:
    return _band(rng, len(time_s), 3000, 7500)


def _sonar(time_s: Signal, rng: np.random.Generator) -> Signal:
    return 2.5 * _bursts(time_s, 0.8, 0.25) * np.sin(2 * np.pi * 1500 * time_s)


def _ticking(time_s: Signal, rng: np.random.Generator) -> Signal:
    return 3.0 * _bursts(time_s, 2.0, 0.01) * np.sin(2 * np.pi * 4200 * time_s)


def _engine(time_s: Signal, rng: np.random.Generator) -> Signal:
    return np.sign(np.sin(2 * np.pi * 47 * time_s)) * (0.8 + 0.2 * np.sin(2 * np.pi * 5 * time_s))


def _chirps(time_s: Signal, rng: np.random.Generator) -> Signal:
    sweep = np.sin(2 * np.pi * (3000 * time_s + 90 * np.sin(2 * np.pi * 6 * time_s)))
    return np.asarray(2.0 * _bursts(time_s, 1.3, 0.08) * sweep, dtype=np.float64)


BACKGROUNDS = {
    "music": _music,
    "rain": _rain,
    "sonar": _sonar,
    "ticking": _ticking,
    "engine": _engine,
    "chirps": _chirps,
}
"""Background sounds, about unit peak."""
