"""What this machine can do at best, measured: matrix products and re-reading a buffer."""

import statistics
import time
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from wavestill.nn.native import is_available
from wavestill.nn.onednn import onednn_fuses
from wavestill.sampling.native import read_bandwidth

Precision = Literal["float32", "bfloat16"]

_SIZE = 1024  # 4 MiB a matrix: large enough for a core's best, small enough for its cache
_PRODUCTS = {"float32": 1, "bfloat16": 4}  # 20 ms or more on a core of today
_READ_BYTES = 1 << 28  # about as much as a sampler streams in a few milliseconds
_LEAST_BYTES = 1024  # what the kernel reads at least
_MOST_READS = 1000  # of a small buffer, where calls cost more than reading


def matrix_product(precision: Precision) -> Callable[[], float]:
    """A job that multiplies square matrices, and returns 1e9 operations per second.

    Torch has two libraries for it, of which either may be twice as fast on a processor: the faster
    one counts.

    Arguments:
        precision: Of both factors; the sum is torch's own affair.
    """
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(_SIZE, _SIZE, generator=generator).to(dtype) for _ in range(2))

    ways: list[Callable[[], Tensor]] = [lambda: torch.mm(left, right)]
    if onednn_fuses(dtype):
        ways.append(lambda: torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], ""))

    def rate(way: Callable[[], Tensor]) -> float:
        begin = time.perf_counter()
        for _ in range(_PRODUCTS[precision]):
            way()
        return 2e-9 * _SIZE**3 * _PRODUCTS[precision] / (time.perf_counter() - begin)

    return lambda: max(map(rate, ways))


def streaming_read(num_bytes: int) -> Callable[[], float]:
    """A job that reads one buffer again and again on one core, and returns 1e9 bytes per second.

    A buffer that fits a cache is read at that cache's speed, which is what a sampler that reads
    as many bytes of weights at every step could reach. Without the native kernel torch's sum
    reads, on as many cores as torch uses.

    Arguments:
        num_bytes: Size of the buffer.
    """
    if is_available():
        return lambda: statistics.median(read_bandwidth(max(num_bytes, _LEAST_BYTES), 5))
    buffer = torch.zeros(max(1, num_bytes // 4))
    repeats = max(1, min(_MOST_READS, _READ_BYTES // (4 * len(buffer))))

    def job() -> float:
        begin = time.perf_counter()
        for _ in range(repeats):
            buffer.sum()
        return 4e-9 * len(buffer) * repeats / (time.perf_counter() - begin)

    return job
