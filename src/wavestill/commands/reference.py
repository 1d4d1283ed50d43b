"""The voice that comes with wavestill copies a few recordings: what the demo opens with."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import soxr

from wavestill import publish
from wavestill.audio import read_sound, write_sound
from wavestill.audio.recordings import Recording
from wavestill.commands.terminal import say, waiting
from wavestill.drawing import synthesise
from wavestill.evaluation.measurement import ClipSounds
from wavestill.evaluation.report import Lead
from wavestill.input_frames import copy_sound

VOICE = "kathleen"
MAX_SECONDS = 4.0

_SAMPLERS: dict[str, Literal["student", "native"]] = {"student": "student", "teacher": "native"}

_TEXT = (
    "Trained once, by recipes/kathleen_16k_cpu.yaml, on 74 minutes of one woman reading (public "
    "domain), and part of the installation: wavestill synth {voice} sentence.wav -o copy.wav. "
    "Here it copies recordings whose speaker it has never heard: the student in one pass, "
    "{student:.2g} × real time; the teacher sample by sample in the native kernel, {teacher:.2g} "
    "× real time. How well it copies its own speaker is measured in docs/results.md."
)


def copy_by_packaged_voice(
    recordings: Sequence[Recording], out: Path
) -> tuple[Lead, dict[str, Any]]:
    """Copies of recordings by student and teacher, written to `out` and shown in the report.

    Returns:
        What the report opens with, and the figures: `times_real_time` of each sampler.
    """
    voice = publish.load(VOICE)
    rate = voice.spec.sample_rate
    clips, drawn_s = [], dict.fromkeys(_SAMPLERS, 0.0)
    seconds = 0.0
    with waiting("copying") as show:
        for number, recording in enumerate(recordings):
            sound = read_sound(recording.path)
            copied = copy_sound(sound, voice, recording.path)
            frames = copied.frames[: int(MAX_SECONDS * rate / voice.spec.hop_samples)]
            length = len(frames) * voice.spec.hop_samples
            heard = soxr.resample(sound.wave, sound.sample_rate, rate, quality="VHQ")
            sounds = {"recording": heard[:length]}
            for part, (name, sampler) in enumerate(_SAMPLERS.items()):
                show("", (number + part / 2) / len(recordings))
                begin_s = time.perf_counter()
                x = synthesise(voice, frames, sampler=sampler)
                drawn_s[name] += time.perf_counter() - begin_s
                sounds[name] = x[: len(sounds["recording"])] * 10 ** (-copied.gain_db / 20)
            seconds += length / rate
            clips.append(ClipSounds(recording.id, recording.text, sounds))
            for name, x in sounds.items():
                folder = out / recording.id.replace("/", "-")
                folder.mkdir(parents=True, exist_ok=True)
                write_sound(folder / f"{name}.wav", x, rate)
    paces = {name: seconds / taken_s for name, taken_s in drawn_s.items()}
    for name, pace in paces.items():
        say(f"   {name}: {len(clips)} copies of {seconds:.1f} s, {pace:.2g} × real time")
    text = _TEXT.format(voice=VOICE, **paces)
    lead = Lead(f"The voice that comes with wavestill: {VOICE}", text, clips, rate)
    return lead, {name: {"times_real_time": pace} for name, pace in paces.items()}
