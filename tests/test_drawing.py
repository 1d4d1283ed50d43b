"""From frames to sound with a voice: every sampler, whole and streamed."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from wavestill import Voice, stream, synthesise
from wavestill.drawing import Sampler, Streamed, synthesise_batch

SAMPLERS: list[Sampler] = ["student", "native", "cached", "speculative", "jacobi", "naive"]
STREAMED: list[Streamed] = ["student", "native", "cached"]


@pytest.fixture(name="frames")
def _frames(tiny_voice: Voice) -> np.ndarray:
    frames = np.random.default_rng(0).normal(size=(6, tiny_voice.spec.num_features))
    if tiny_voice.spec.pitch:
        frames[:, -2:] = [5.0, 1.0]
    return frames.astype(np.float32)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_names_a_sound(tiny_voice, frames, sampler):
    told: list[tuple[int, int]] = []
    sound, again, other = (
        synthesise(
            tiny_voice,
            frames,
            sampler=sampler,
            seed=seed,
            progress=lambda done, total: told.append((done, total)),
        )
        for seed in (1, 1, 2)
    )
    assert sound.shape == (len(frames) * tiny_voice.spec.hop_samples,)
    assert np.isfinite(sound).all()
    assert np.array_equal(sound, again)
    assert not np.array_equal(sound, other)
    assert told[-1] == (len(sound), len(sound))


def test_the_teachers_samplers_make_one_draw_of_a_seed(tiny_voice, frames):
    drawn = {
        sampler: synthesise(tiny_voice, frames, sampler=sampler)
        for sampler in ("native", "cached", "jacobi", "naive")
    }
    for sound in drawn.values():  # on the 16-bit grid: a rounding may fall the other way
        assert np.abs(sound - drawn["cached"]).max() < 1e-3


@pytest.mark.parametrize("sampler", STREAMED)
@pytest.mark.parametrize("chunk_samples", [None, 50])
def test_a_stream_is_the_whole(tiny_voice, frames, sampler, chunk_samples):
    whole = synthesise(tiny_voice, frames, sampler=sampler, seed=3)
    parts = (frames[:1], frames[1:4], frames[4:])
    chunks = list(stream(tiny_voice, parts, sampler=sampler, seed=3, chunk_samples=chunk_samples))
    assert len(chunks) > 1
    np.testing.assert_allclose(np.concatenate(chunks), whole, atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_of_a_batch_sounds_as_by_itself(tiny_voice, frames, sampler):
    tiny_voice = copy.deepcopy(tiny_voice)
    torch.manual_seed(0)
    for model in (tiny_voice.student, tiny_voice.teacher):
        for parameter in model.parameters():  # heads begin at 0, deaf to frames
            parameter.data += 0.1 * torch.randn_like(parameter)
    batch = [frames[:2], frames[:4], frames[3:4], 0.5 * frames[1:4]]
    told: list[tuple[int, int]] = []
    together = synthesise_batch(
        tiny_voice,
        batch,
        sampler=sampler,
        seed=5,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told[-1][0] == told[-1][1]
    for one, sound in zip(batch, together, strict=True):
        alone = synthesise(tiny_voice, one, sampler=sampler, seed=5)
        assert sound.shape == alone.shape
        # the teacher's samples lie on a grid, where a rounding may fall to the next step
        np.testing.assert_allclose(sound, alone, atol=1e-6 if sampler == "student" else 1e-3)


def test_what_cannot_be_drawn_is_refused(tiny_voice, frames):
    with pytest.raises(ValueError, match=r"'temperature' is 0\.8 but speculative"):
        synthesise(tiny_voice, frames, sampler="speculative", temperature=0.8)
    with pytest.raises(ValueError, match="'temperature' is nan"):
        stream(tiny_voice, [frames], temperature=float("nan"))
    with pytest.raises(ValueError, match=r"frames have shape \(0, "):
        synthesise(tiny_voice, frames[:0])
    frames[2, 0] = np.nan
    for sampler in SAMPLERS:
        with pytest.raises(ValueError, match=r"1 of .* values of the frames are not finite"):
            synthesise(tiny_voice, frames, sampler=sampler)
    without = dataclasses.replace(tiny_voice, student=None)
    with pytest.raises(ValueError, match="student"):
        synthesise(without, frames, sampler="speculative")
