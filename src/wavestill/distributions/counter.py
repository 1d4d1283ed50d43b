r"""Base noise from a counter: any stretch of any stream, without the stretches before it.

A seed names the same noise whatever the sampler, the threads, and the pieces in which it is drawn.
"""

import numpy as np
import torch
from torch import Tensor

from wavestill.distributions.base import Base

_WORDS = 4  # random words that one count gives


def counter_noise(
    base: Base,
    seed: int,
    num: int,
    length: int,
    *,
    start: int = 0,
    first_stream: int = 0,
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""Draw steps `start ... start + length - 1` of streams of base noise, `(num, length)`.

    Step `t` of stream `i` is made of word `t` of Philox4x64-10 under the key `(seed, i)`, the
    words being those of `numpy.random.Philox`: :math:`u = \lfloor w / 2^{11} \rfloor 2^{-53}`, at
    least :math:`2^{-54}`, and :math:`z = F^{-1}(u)` in float64, rounded once.

    References:
        | Parallel Random Numbers: As Easy as 1, 2, 3 (Salmon et al., 2011), section 3.3,
          https://doi.org/10.1145/2063384.2063405

    Arguments:
        base: The base law.
        seed: Of all the streams, in [0, 2^64).
        num: Streams.
        length: Steps of each.
        start: The first step.
        first_stream: Number of the first stream.
        dtype: Of the result; None takes torch's default.

    Example:
        >>> whole = counter_noise("normal", 1, 2, 10)
        >>> torch.equal(whole[1:, 3:], counter_noise("normal", 1, 1, 7, start=3, first_stream=1))
        True
    """
    first, skip = divmod(start, _WORDS)
    words = np.stack(
        [
            np.random.Philox(key=np.array([seed, stream], np.uint64), counter=first).random_raw(
                skip + length
            )[skip:]
            for stream in range(first_stream, first_stream + num)
        ]
    )
    u = torch.from_numpy((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)
    u = u.clamp(min=2.0**-54)
    z = torch.logit(u) if base == "logistic" else torch.special.ndtri(u)
    return z.to(dtype or torch.get_default_dtype())
