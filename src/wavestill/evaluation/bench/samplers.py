"""How each sampler is run to be measured, and what a run of it computes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from wavestill.evaluation.bench.conv1d import Conv1dStudent
from wavestill.evaluation.bench.cost import (
    encoder_flops,
    num_weights,
    pass_flops,
    weight_bytes,
)
from wavestill.evaluation.bench.machine import Precision
from wavestill.evaluation.bench.subject import Subject
from wavestill.models import IAFWaveNet, WaveNet
from wavestill.sampling import cached, naive
from wavestill.sampling.jacobi import jacobi
from wavestill.sampling.native import NativeSampler, native
from wavestill.sampling.speculative import speculative

_JACOBI_WINDOW = 64


@dataclass(frozen=True)
class Work:
    """What a draw amounted to, over all its streams.

    Arguments:
        num_samples: Samples drawn.
        flops: Operations, by the cost model.
        weight_bytes: Bytes of weights read, once for each step or pass.
        more: What else it tells of itself.
    """

    num_samples: int
    flops: float
    weight_bytes: float
    more: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sampler:
    """A way to draw.

    Arguments:
        label: What it is called in tables.
        draw: Draws so many samples of each stream.
        first: Draws so many samples from a standing start, in the way that gets them soonest.
        step_bytes: Weights that it reads for each next step or pass, in bytes.
        precision: Of its weights.
        arithmetic: In which precision it multiplies.
        num_streams: Sequences drawn together.
        grows: Whether its time against length is measured too.
        pass_time: For the naive sampler: one pass over so many samples.
    """

    label: str
    draw: Callable[[int], Work]
    first: Callable[[int], object]
    step_bytes: int
    precision: Precision = "float32"
    arithmetic: Precision = "float32"
    num_streams: int = 1
    grows: bool = True
    pass_time: Callable[[int], object] | None = None


def naive_sampler(subject: Subject) -> Sampler:
    """`sampling.naive`, each sample with a whole receptive field behind it."""
    model = subject.require_teacher()
    reach = model.receptive_field + 1
    num_bytes = weight_bytes(model.config, 4, projected=True)
    past = torch.zeros(1, reach)

    def draw(num_samples: int) -> Work:
        encoded = model.encode(subject.context(model, reach))
        for z in subject.noise(model, num_samples)[0]:
            past[:, -1:] = model.conditionals(past, encoded)[:, -1:].from_noise(z.view(1, 1))
        flops = num_samples * pass_flops(model.config, reach)
        return Work(num_samples, flops, num_samples * num_bytes)

    def first(num_samples: int) -> None:
        naive(model, subject.noise(model, num_samples), subject.context(model, num_samples))

    def one_pass(num_samples: int) -> None:
        encoded = model.encode(subject.context(model, num_samples))
        model.conditionals(torch.zeros(1, num_samples), encoded)

    return Sampler("naive", draw, first, num_bytes, pass_time=one_pass)


def cached_sampler(subject: Subject) -> Sampler:
    """`sampling.cached`."""
    model = subject.require_teacher()
    num_bytes = weight_bytes(model.config, 4, projected=True)
    step_flops = pass_flops(model.config, 1)

    def draw(num_samples: int) -> Work:
        cached(model, subject.noise(model, num_samples), subject.context(model, num_samples))
        flops = num_samples * step_flops + _encoding(model, subject, num_samples)
        return Work(num_samples, flops, num_samples * num_bytes)

    return Sampler("cached", draw, draw, num_bytes)


def native_sampler(
    subject: Subject, precision: Precision, num_streams: int, num_threads: int, *, grows: bool
) -> Sampler:
    """`sampling.native`.

    Arguments:
        subject: What it draws from.
        precision: Of the packed weights; it multiplies in float32.
        num_streams: Sequences drawn together.
        num_threads: Among which they are split.
        grows: Whether its time against length is measured too.
    """
    model = subject.require_teacher()
    streams_per_thread = -(-num_streams // num_threads)
    num_bytes = round(NativeSampler(model, weights=precision).step_bytes(streams_per_thread))

    def draw(num_samples: int) -> Work:
        noise = subject.noise(model, num_samples, num_streams)
        context = subject.context(model, num_samples, num_streams)
        native(model, noise, context, weights=precision, threads=num_threads)
        flops = pass_flops(model.config, num_samples) + _encoding(model, subject, num_samples)
        return Work(num_streams * num_samples, num_streams * flops, num_samples * num_bytes)

    label = "native" + (", bfloat16" if precision == "bfloat16" else "")
    label += f", {num_streams} streams" if num_streams > 1 else ""
    return Sampler(label, draw, draw, num_bytes, precision, "float32", num_streams, grows)


def jacobi_sampler(subject: Subject, *, with_student: bool) -> Sampler:
    """`sampling.jacobi` in windows, of the teacher's noise or of the student's."""
    teacher = subject.require_teacher()
    models: list[WaveNet | IAFWaveNet] = [teacher]
    if with_student:
        models.append(subject.require_student())
    num_bytes = sum(weight_bytes(model.config, 4, projected=True) for model in models)
    label = "jacobi with student" if with_student else "jacobi"

    def draw(num_samples: int) -> Work:
        result = jacobi(
            teacher,
            subject.noise(teacher, num_samples),
            subject.context(teacher, num_samples),
            student=subject.student if with_student else None,
            window=_JACOBI_WINDOW,
        )
        num_passes = int(result.iterations.max())
        width = min(_JACOBI_WINDOW, num_samples)
        flops = sum(
            num_passes * pass_flops(model.config, width) + _encoding(model, subject, num_samples)
            for model in models
        )
        more = {"samples_per_pass": result.samples_per_pass}
        return Work(num_samples, flops, num_passes * num_bytes, more)

    return Sampler(label, draw, draw, num_bytes, grows=with_student)


def speculative_sampler(subject: Subject) -> Sampler:
    """`sampling.speculative`, its windows chosen as it goes."""
    teacher, student = subject.require_teacher(), subject.require_student()
    models: list[WaveNet | IAFWaveNet] = [teacher, student]
    num_bytes = sum(weight_bytes(model.config, 4, projected=True) for model in models)

    def draw(num_samples: int) -> Work:
        result = speculative(
            teacher,
            student,
            subject.noise(student, num_samples),
            subject.context(teacher, num_samples),
            generator=torch.Generator().manual_seed(0),
        )
        flops = sum(
            sum(pass_flops(model.config, width) for width in result.windows)
            + _encoding(model, subject, num_samples)
            for model in models
        )
        more = {
            "samples_per_round": result.samples_per_round,
            "samples_per_round_bound": num_samples / result.expected_rounds,
            "tv_per_step": result.tv_per_step,
        }
        return Work(num_samples, flops, result.num_rounds * num_bytes, more)

    return Sampler("speculative", draw, draw, num_bytes)


def student_sampler(
    subject: Subject,
    model: IAFWaveNet,
    label: str,
    precision: Precision = "float32",
    *,
    grows: bool = True,
) -> Sampler:
    """A student's one pass.

    Arguments:
        subject: What it is given.
        model: The subject's student, or another form of it.
        label: What the form is called.
        precision: Of its weights.
        grows: Whether its time against length is measured too.
    """
    bytes_per_weight = 4 if precision == "float32" else 2
    num_bytes = weight_bytes(model.config, bytes_per_weight, projected=True)

    def draw(num_samples: int) -> Work:
        encoded = model.encode(subject.context(model, num_samples))
        model.rsample(subject.noise(model, num_samples), encoded)
        flops = pass_flops(model.config, num_samples) + _encoding(model, subject, num_samples)
        return Work(num_samples, flops, num_bytes)

    def first(num_samples: int) -> None:
        model.stream(subject.noise(model, num_samples), subject.context(model, num_samples))

    return Sampler(label, draw, first, num_bytes, precision, precision, grows=grows)


def conv1d_sampler(subject: Subject) -> Sampler:
    """The student as plain `conv1d`, the baseline of its own speed."""
    model = subject.require_student()
    plain = Conv1dStudent(model)
    num_bytes = weight_bytes(model.config, 4, projected=True)

    def draw(num_samples: int) -> Work:
        encoded = model.encode(subject.context(model, num_samples))
        plain.sample(subject.noise(model, num_samples), encoded)
        # here the conditioning is projected for every sample
        flops = 2 * num_samples * num_weights(model.config)
        return Work(num_samples, flops + _encoding(model, subject, num_samples), num_bytes)

    return Sampler("student, plain conv1d", draw, draw, num_bytes, grows=False)


def _encoding(model: WaveNet | IAFWaveNet, subject: Subject, num_samples: int) -> int:
    num_frames = -(-num_samples // subject.hop_samples)
    return encoder_flops(model.config.conditioning, num_frames)
