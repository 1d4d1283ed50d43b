"""The table of samplers that `wavestill bench` measures: a new one is one more line."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from wavestill.evaluation.bench.machine import Precision
from wavestill.evaluation.bench.samplers import (
    Sampler,
    cached_sampler,
    conv1d_sampler,
    jacobi_sampler,
    naive_sampler,
    native_sampler,
    speculative_sampler,
    student_sampler,
)
from wavestill.evaluation.bench.subject import Subject
from wavestill.models.packed_student import PackedStudent
from wavestill.nn.native import why_not

Part = Literal["teacher", "student"]


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Arguments:
        group: What `--samplers` calls it, alone or together with others.
        parts: Which networks it takes.
        make: Makes it ready, for so many threads.
        learned: Whether its speed depends on what the networks have learned.
        missing: Why it cannot be run on this machine; None where it can.
    """

    group: str
    parts: tuple[Part, ...]
    make: Callable[[Subject, int], Sampler]
    learned: bool = False
    missing: Callable[[], str | None] = lambda: None


def _native(precision: Precision, num_streams: int) -> Row:
    def make(subject: Subject, num_threads: int) -> Sampler:
        grows = num_streams == 1 and precision == "float32"
        return native_sampler(subject, precision, num_streams, num_threads, grows=grows)

    return Row("native", ("teacher",), make, missing=why_not)


def _packed(precision: Precision) -> Row:
    dtype, end = (None, "") if precision == "float32" else (torch.bfloat16, ", bfloat16")

    def make(subject: Subject, num_threads: int) -> Sampler:
        del num_threads
        packed = PackedStudent(subject.require_student(), dtype=dtype)
        label = f"student, packed{end}"
        return student_sampler(subject, packed, label, precision, grows=precision == "bfloat16")

    return Row("student", ("student",), make)


ROWS: Mapping[str, Row] = {
    "naive": Row("naive", ("teacher",), lambda subject, _: naive_sampler(subject)),
    "cached": Row("cached", ("teacher",), lambda subject, _: cached_sampler(subject)),
    "native": _native("float32", 1),
    "native_8_streams": _native("float32", 8),
    "native_bfloat16": _native("bfloat16", 1),
    "native_bfloat16_8_streams": _native("bfloat16", 8),
    "jacobi": Row(
        "jacobi",
        ("teacher",),
        lambda subject, _: jacobi_sampler(subject, with_student=False),
        learned=True,
    ),
    "jacobi_with_student": Row(
        "jacobi",
        ("teacher", "student"),
        lambda subject, _: jacobi_sampler(subject, with_student=True),
        learned=True,
    ),
    "speculative": Row(
        "speculative",
        ("teacher", "student"),
        lambda subject, _: speculative_sampler(subject),
        learned=True,
    ),
    "student_conv1d": Row("student", ("student",), lambda subject, _: conv1d_sampler(subject)),
    "student": Row(
        "student",
        ("student",),
        lambda subject, _: student_sampler(subject, subject.require_student(), "student"),
    ),
    "student_packed": _packed("float32"),
    "student_packed_bfloat16": _packed("bfloat16"),
}
"""All samplers there are, by the names of their figures."""


def samplers(
    subject: Subject, groups: Sequence[str] | None, num_threads: int
) -> tuple[dict[str, Sampler], dict[str, str]]:
    """What can be measured of a subject, and why the rest cannot.

    Arguments:
        subject: The networks.
        groups: Names from the table; None takes all that can be measured.
        num_threads: For samplers with threads of their own.

    Returns:
        Samplers by name, and reasons by the names of those left out.

    Raises:
        ValueError: If a name is unknown, or a sampler that was asked for cannot be measured.
    """
    known = list(dict.fromkeys(row.group for row in ROWS.values()))
    for group in groups or ():
        if group not in known:
            raise ValueError(f"there is no sampler '{group}'; there are {', '.join(known)}")
    ready: dict[str, Sampler] = {}
    reasons: dict[str, str] = {}
    for name, row in ROWS.items():
        if groups is not None and row.group not in groups:
            continue
        missing = [part for part in row.parts if getattr(subject, part) is None]
        if missing:
            reasons[name] = f"this voice has no {missing[0]}"
        elif row.learned and not subject.trained:
            reasons[name] = "its speed is a matter of what the networks have learned: name a voice"
        elif (reason := row.missing()) is not None:
            reasons[name] = f"it cannot be loaded: {reason}"
        else:
            ready[name] = row.make(subject, num_threads)
    for group in groups or ():
        if not any(ROWS[name].group == group for name in ready):
            [reason, *_] = [reasons[name] for name in reasons if ROWS[name].group == group]
            raise ValueError(f"'{group}' cannot be measured: {reason}")
    return ready, reasons
