"""What `wavestill bench` measures: a voice of one's own, or networks of the papers' shapes."""

import importlib.resources
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wavestill.audio.mel import MelSpec
from wavestill.density import Conditioning
from wavestill.distributions import standard_noise
from wavestill.input_frames import frames_of_recording
from wavestill.models import IAFWaveNet, IAFWaveNetConfig, WaveNet, WaveNetConfig
from wavestill.nn.conditioning import ConditioningConfig
from wavestill.publish import Voice

_REFERENCE_SECONDS = 2


@dataclass(frozen=True)
class Subject:
    """Networks and the frames they are given.

    Arguments:
        teacher: The autoregressive density; None: its samplers are left out.
        student: Its parallel student; None: likewise.
        frames: `(F, C)`; where more are needed they begin anew.
        sample_rate: Samples per second.
        hop_samples: Samples per frame.
        speaker: Number of the speaker, for models of several.
        trained: Whether how long a draw takes may depend on what is drawn.
        about: What this is, in a few words.
    """

    teacher: WaveNet | None
    student: IAFWaveNet | None
    frames: Tensor
    sample_rate: int
    hop_samples: int
    speaker: int | None
    trained: bool
    about: str

    def require_teacher(self) -> WaveNet:
        """The teacher, which is known to be there."""
        assert self.teacher is not None
        return self.teacher

    def require_student(self) -> IAFWaveNet:
        """The student, which is known to be there."""
        assert self.student is not None
        return self.student

    def context(
        self, model: WaveNet | IAFWaveNet, num_samples: int, num_streams: int = 1
    ) -> Conditioning | None:
        """What conditions the first `num_samples` samples, no frame more than they need."""
        conditioning = model.config.conditioning
        if conditioning is None:
            return None
        num_frames = -(-num_samples // self.hop_samples)
        rounds = -(-num_frames // len(self.frames))
        frames = self.frames.repeat(rounds, 1)[:num_frames].expand(num_streams, -1, -1)
        speakers = None
        if conditioning.num_speakers:
            speakers = torch.full((num_streams,), self.speaker or 0)
        return Conditioning(frames if conditioning.num_features else None, speakers)

    def noise(self, model: WaveNet | IAFWaveNet, num_samples: int, num_streams: int = 1) -> Tensor:
        """Base draws `(num_streams, num_samples)`, the same at every call."""
        generator = torch.Generator().manual_seed(0)
        return standard_noise(model.base, (num_streams, num_samples), generator=generator)


def reference_subject() -> Subject:
    """Networks of the size of Parallel WaveNet's at 24 kHz, with random weights.

    References:
        | Parallel WaveNet (van den Oord et al., 2018), section 5, https://arxiv.org/abs/1711.10433
    """
    conditioning = ConditioningConfig(num_features=80, hop_samples=300, sample_rate=24000)
    generator_state = torch.get_rng_state()
    torch.manual_seed(0)
    teacher = WaveNet(WaveNetConfig(skip_channels=256, conditioning=conditioning)).eval()
    student = IAFWaveNet(IAFWaveNetConfig(conditioning=conditioning)).eval()
    frames = torch.randn(_REFERENCE_SECONDS * 24000 // 300, 80)
    torch.set_rng_state(generator_state)
    return Subject(
        teacher,
        student,
        frames,
        sample_rate=24000,
        hop_samples=300,
        speaker=None,
        trained=False,
        about="networks of the papers' shapes with random weights",
    )


def voice_subject(voice: Voice, name: str, recording: Path | None = None) -> Subject:
    """A voice that copies a recording, from its loudest frame on and around its end.

    Arguments:
        voice: Teacher, student or both.
        name: What the voice is called.
        recording: Gives the frames; None takes a sentence of the speech that comes with wavestill.

    Raises:
        ValueError: If the voice is empty.
        SoundError: If the recording cannot be used.
    """
    if voice.teacher is None and voice.student is None:
        raise ValueError(f"'{name}' has neither a teacher nor a student; train one first")
    if recording is None:
        packaged = Path(str(importlib.resources.files("wavestill") / "data" / "demo_speech"))
        recording = min((packaged / "wavs").glob("*.flac"))
    frames = torch.from_numpy(frames_of_recording(recording, voice).frames)
    # short runs should meet speech, not the silence before it
    loudest = 0
    if isinstance(voice.spec, MelSpec):
        loudest = int(frames[:, : voice.spec.num_mels].mean(1).argmax())
    return Subject(
        voice.teacher,
        voice.student,
        frames.roll(-loudest, 0),
        sample_rate=voice.spec.sample_rate,
        hop_samples=voice.spec.hop_samples,
        speaker=0 if voice.speakers else None,
        trained=True,
        about=f"voice '{name}' copying {recording.name}",
    )
