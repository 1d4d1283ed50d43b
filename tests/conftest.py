"""A corpus and a voice so small that they are made in seconds, once for all tests."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from wavestill import IAFWaveNet, IAFWaveNetConfig, WaveNet, WaveNetConfig, publish
from wavestill.audio import Corpus, prepare, write_sound
from wavestill.nn.conditioning import ConditioningConfig
from wavestill.nn.threads import torch_threads
from wavestill.publish import Voice


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten buzzes of half a second at 8 kHz, as a plain folder of WAV files."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    time_s = np.arange(4000) / 8000
    for number in range(10):
        f0_hz = 110 + 10 * number
        harmonics = [np.sin(2 * np.pi * k * f0_hz * time_s) / k for k in range(1, 12)]
        wave = 0.1 * np.sum(harmonics, axis=0) + 0.003 * rng.normal(size=len(time_s))
        write_sound(folder / f"buzz{number}.wav", wave.astype(np.float32), 8000)
    return folder


@pytest.fixture(scope="session")
def corpus(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The buzzes, prepared at 8 kHz."""
    out = tmp_path_factory.mktemp("corpus") / "buzzes"
    prepare(recordings, out, preset="wavestill_8k", valid_fraction=0.2, test_fraction=0.2)
    return Corpus(out)


@pytest.fixture(scope="session")
def tiny_voice(corpus: Corpus) -> Voice:
    """Teacher and student of the buzzes' spec, untrained."""
    torch.manual_seed(0)
    spec = corpus.spec
    conditioning = ConditioningConfig(
        num_features=spec.num_features,
        hop_samples=spec.hop_samples,
        sample_rate=spec.sample_rate,
        channels=4,
    )
    teacher = WaveNet(
        WaveNetConfig(
            layers=3,
            dilation_cycle=3,
            residual_channels=4,
            gate_channels=4,
            skip_channels=4,
            num_mixtures=2,
            conditioning=conditioning,
        )
    ).eval()
    student = IAFWaveNet(
        IAFWaveNetConfig(flows=(2, 2), channels=4, conditioning=conditioning)
    ).eval()
    for model in (teacher, student):
        model.calibrate(0.07 * torch.randn(1000))
    return Voice(spec=spec, teacher=teacher, student=student)


@pytest.fixture(scope="session")
def student_of_two(tiny_voice: Voice) -> IAFWaveNet:
    """An untrained student of two speakers."""
    config = tiny_voice.require_student().config
    assert config.conditioning is not None
    conditioning = dataclasses.replace(config.conditioning, num_speakers=2)
    torch.manual_seed(0)
    student = IAFWaveNet(dataclasses.replace(config, conditioning=conditioning)).eval()
    student.calibrate(0.07 * torch.randn(1000))
    for parameter in student.parameters():  # heads begin at 0, deaf to any conditioning
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)
    return student


@pytest.fixture(scope="session")
def voice_path(tiny_voice: Voice, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The voice as a folder."""
    path = tmp_path_factory.mktemp("voices") / "tiny"
    publish.save(tiny_voice, path)
    return path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small networks are faster on one thread, and far faster beside other programs."""
    with torch_threads(1):
        yield
