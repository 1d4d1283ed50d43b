"""Sound from frames as they come: the same as from the whole, however either is cut."""

import pytest
import torch

from tests.models.table import HOP, STUDENTS, TEACHERS
from wavestill.distributions import counter_noise
from wavestill.nn.frames import FrameEncoder
from wavestill.sampling import CachedSampler, StudentSampler, cached, stream
from wavestill.sampling import streaming as streaming_module

FRAMES = 10
CONDITIONAL = ["mel", "pitch", "mel+voices"]


def case_of(kind, name):
    """A model, its context for one sequence, and its sample as one whole."""
    case = {"student": STUDENTS, "cached": TEACHERS}[kind][name]
    model, context = case.model(), case.context(1, FRAMES)
    noise = counter_noise(model.base, 7, 1, FRAMES * HOP, dtype=torch.float64)
    whole = model.rsample(noise, context).x if kind == "student" else cached(model, noise, context)
    return model, context, whole[0].detach()


def streamed(kind, model, context, sizes, **settings):
    sampler = StudentSampler(model) if kind == "student" else CachedSampler(model)
    frames = torch.split(context.frames[0], sizes)
    pieces = model.frame_stream(context.speaker)
    return list(stream(sampler, pieces, iter(frames), model.base, seed=7, **settings))


@pytest.mark.parametrize("kind", ["student", "cached"])
@pytest.mark.parametrize("name", CONDITIONAL)
@pytest.mark.parametrize(
    ("sizes", "chunk_samples"),
    [([1] * FRAMES, None), ([1] * FRAMES, 1), ([FRAMES], 7), ([5, 0, 1, 4], 1000)],
)
def test_chunks_are_the_whole(kind, name, sizes, chunk_samples):
    model, context, whole = case_of(kind, name)
    chunks = streamed(kind, model, context, sizes, chunk_samples=chunk_samples)
    if chunk_samples is not None:
        assert {len(chunk) for chunk in chunks[:-1]} <= {chunk_samples}
        assert 0 < len(chunks[-1]) <= chunk_samples
    torch.testing.assert_close(torch.cat(chunks), whole, rtol=0, atol=1e-12)


def test_long_pieces_are_drawn_in_parts(monkeypatch):
    monkeypatch.setattr(streaming_module, "PART_SAMPLES", 3 * HOP + 1)
    model, context, whole = case_of("student", "pitch")
    chunks = streamed("student", model, context, [FRAMES])
    assert max(map(len, chunks)) == 3 * HOP + 1
    torch.testing.assert_close(torch.cat(chunks), whole, rtol=0, atol=1e-12)


def test_sound_comes_as_soon_as_its_frames_are_seen():
    model, context, _ = case_of("student", "mel")
    given = []

    def coming():
        for frame in context.frames[0]:
            given.append(frame)
            yield frame.unsqueeze(0)

    sound = stream(StudentSampler(model), model.frame_stream(), coming(), model.base)
    assert len(next(sound)) == HOP
    assert len(given) == 1 + FrameEncoder.LOOKAHEAD_FRAMES


def test_memory_does_not_grow_with_the_sound():
    model = STUDENTS["pitch"].model()
    sampler = StudentSampler(model)
    frame = torch.tensor([[0.1, 0.2, 0.3, 5.0, 1.0]], dtype=torch.float64)
    sizes = set()
    sound = stream(sampler, model.frame_stream(), (frame for _ in range(500)), model.base)
    for i, _ in enumerate(sound):
        if i > 200:
            histories = sampler._state.histories()
            sizes.add(sum(history._buffer.numel() for history in histories))
    assert len(sizes) == 1


def test_bad_frames_are_refused_before_any_sound():
    model, _, _ = case_of("student", "mel")
    for frames, message in (
        ([], "no frames came"),
        ([torch.zeros(3, 4).double()], "4 columns but the model was built for 5"),
        ([torch.full((3, 5), torch.nan).double()], "15 of 15 values of the frames are not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            list(stream(StudentSampler(model), model.frame_stream(), frames, model.base))
    with pytest.raises(ValueError, match="'chunk_samples' is 0"):
        list(stream(StudentSampler(model), model.frame_stream(), [], model.base, chunk_samples=0))
    with pytest.raises(ValueError, match="without frames"):
        TEACHERS["gaussian"].model().frame_stream()
