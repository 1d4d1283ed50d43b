"""The native kernel (native/module.cpp): WaveNet steps without Python between the samples."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from wavestill.models.arrays import FlowArrays, StudentArrays, TeacherArrays

Weights: TypeAlias = Literal["float32", "bfloat16"]
Progress: TypeAlias = Callable[[int], object] | None

def instruction_sets() -> list[str]:
    """Those that this processor has and the kernel was compiled for; the first is chosen."""

def read_bandwidth(num_bytes: int, repeats: int = 5, instruction_set: str = "") -> list[float]:
    """GB/s of reading a buffer of so many bytes again and again, for each repeat."""

def pack_teacher(
    arrays: TeacherArrays, weights: Weights = "float32", instruction_set: str = ""
) -> Teacher: ...
def pack_student(
    arrays: StudentArrays, weights: Weights = "float32", instruction_set: str = ""
) -> Student: ...

class Teacher:
    """A packed WaveNet."""

    @property
    def instruction_set(self) -> str: ...
    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights of a step."""

    def step_bytes(self, streams: int = 1) -> float:
        """Bytes of them that a step of so many streams reads, on average."""

class Student:
    """The packed flows of an IAF WaveNet."""

    @property
    def instruction_set(self) -> str: ...
    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights of a step."""

    def step_bytes(self, streams: int = 1) -> float:
        """Bytes of them that a step of so many streams reads, on average."""

class Condition:
    """The conditioning under a call's steps: rows `(B, S, C)`, source `(B, n, 2 H)`."""

    def __init__(
        self,
        rows: npt.NDArray[np.float32] | None = None,
        subframe_steps: int = 0,
        lead: int = 0,
        source: npt.NDArray[np.float32] | None = None,
    ) -> None: ...

class Sampler:
    """Streams of a teacher, each step behind the one before."""

    def __init__(self, teacher: Teacher, streams: int, threads: int = 1) -> None: ...
    @property
    def position(self) -> int: ...
    def draw(
        self, noise: npt.NDArray[np.float64], condition: Condition, progress: Progress = None
    ) -> npt.NDArray[np.float32]:
        """The next steps from base draws `(B, n)`."""

    def draw_seeded(
        self,
        steps: int,
        seed: int,
        first_stream: int,
        first_word: int,
        condition: Condition,
        progress: Progress = None,
    ) -> npt.NDArray[np.float32]:
        """The next steps from the noise of a seed, made here."""

    def follow(
        self, x: npt.NDArray[np.float32], condition: Condition, progress: Progress = None
    ) -> npt.NDArray[np.float32]:
        """Parameters `(B, n, P)` of the laws along samples `(B, n)` that are known."""

class Flow:
    """A packed flow's network, over a stretch of time."""

    def __init__(
        self, arrays: FlowArrays, weights: Weights = "float32", instruction_set: str = ""
    ) -> None: ...
    @property
    def instruction_set(self) -> str: ...
    def shape(
        self,
        previous: npt.NDArray[np.float32],
        pasts: Sequence[npt.NDArray[np.float32] | npt.NDArray[np.int16]],
        rows: npt.NDArray[np.float32] | None = None,
        subframe_steps: int = 0,
        leads: Sequence[int] = (),
        source: npt.NDArray[np.float32] | None = None,
        threads: int = 1,
    ) -> npt.NDArray[np.float32]:
        """Location and log-scale `(2, B, n)` of the steps behind the inputs `previous (B, n)`.

        `pasts` holds each layer's past and room for the steps, `(B, reach + n, R)`, which are
        written there; bfloat16 comes as int16. The conditioning are rows `(B, S, C)`, of the first
        of which `leads (B,)` steps are over, and the source `(B, n, 2 H)`.
        """

def linear_synthesis(
    residual: npt.NDArray[np.float32],
    past: npt.NDArray[np.float32],
    taps: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Residuals `(B, n)` to sound `(B, n)` behind the past `(B, P)`; taps `(P,)`, oldest first."""

class Inverter:
    """Streams of a student's inversion."""

    def __init__(self, student: Student, streams: int, threads: int = 1) -> None: ...
    @property
    def position(self) -> int: ...
    def invert(
        self,
        values: npt.NDArray[np.float64],
        condition: Condition,
        progress: Progress = None,
        noise_max: float = 0.0,
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Noise (held within its limit, unless that is 0), total location and total log-scale.

        Each `(B, n)`.
        """
