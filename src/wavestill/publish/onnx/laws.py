r"""Log-probabilities of the teacher's laws in ONNX, float32.

The equations are those of `distributions/`, in operators that ONNX has: it lacks `expm1`,
`log1p` and the normal distribution function.
"""

import math

import numpy as np

from wavestill.publish.onnx.graph import Graph


def mixture_log_prob(
    graph: Graph, x: str, logits: str, loc: str, log_scale: str, bits: int | None
) -> str:
    r"""Of `x (B, T, 1)` under mixtures of logistics `(B, T, K)`, as `(B, T)`.

    .. math:: \log \sum_k \pi_k m_k, \qquad m_k = p_k(x) \text{ or the mass of } x \text{'s bin}
    """
    inverse_scale = graph.op("Exp", graph.op("Neg", log_scale))
    if bits is None:
        z = graph.op("Mul", graph.op("Sub", x, loc), inverse_scale)
        twice = graph.op("Mul", _log_sigmoid(graph, z), 2.0)
        terms = graph.op("Sub", graph.op("Sub", twice, z), log_scale)
    else:
        terms = _log_masses(graph, x, loc, inverse_scale, bits)
    weighted = graph.op("Add", graph.op("LogSoftmax", logits, axis=2), terms)
    return graph.op("ReduceLogSumExp", weighted, axes=[2], keepdims=0)


def _log_masses(graph: Graph, x: str, loc: str, inverse_scale: str, bits: int) -> str:
    r"""Of the bin that `x` falls in, `(B, T, K)`; the end bins take the open tails.

    .. math:: \log[\sigma(c + h) - \sigma(c - h)] = \log\sigma(h + c) + \log\sigma(h - c) +
        \log(1 - e^{-2h})
    """
    width = 2.0 ** (1 - bits)
    top = 2**bits - 1
    level = graph.op("Round", graph.op("Div", graph.op("Add", x, 1.0), width))
    level = graph.op("Clip", level, 0.0, float(top))
    centre = graph.op("Sub", graph.op("Mul", level, width), 1.0)
    c = graph.op("Mul", graph.op("Sub", centre, loc), inverse_scale)
    h = graph.op("Mul", inverse_scale, 0.5 * width)
    below = _log_sigmoid(graph, graph.op("Add", h, c))
    above = _log_sigmoid(graph, graph.op("Sub", h, c))
    narrow = _log1mexp(graph, graph.op("Mul", h, 2.0))
    inside = graph.op("Add", graph.op("Add", below, above), narrow)
    at_bottom, at_top = (graph.op("Equal", level, float(end)) for end in (0, top))
    return graph.op("Where", at_bottom, below, graph.op("Where", at_top, above, inside))


def normal_log_prob(graph: Graph, x: str, loc: str, log_scale: str) -> str:
    """Log-density of `x` under normal laws, all `(B, T)`."""
    z = graph.op("Mul", graph.op("Sub", x, loc), graph.op("Exp", graph.op("Neg", log_scale)))
    half_square = graph.op("Mul", graph.op("Mul", z, z), -0.5)
    return graph.op("Sub", graph.op("Sub", half_square, log_scale), 0.5 * math.log(2 * math.pi))


def mu_law_level(graph: Graph, x: str) -> str:
    """The level of `x (B, T)`, 0 to 255, as float32; see `mu_law_encode`."""
    x = graph.op("Clip", x, -1.0, 1.0)
    grown = graph.op("Log", graph.op("Add", graph.op("Mul", graph.op("Abs", x), 255.0), 1.0))
    f = graph.op("Mul", graph.op("Sign", x), graph.op("Div", grown, math.log(256.0)))
    return graph.op("Round", graph.op("Mul", graph.op("Add", f, 1.0), 127.5))


def mu_law_log_prob(graph: Graph, x: str, logits: str) -> str:
    """Of the levels of `x (B, T)` under `logits (B, T, 256)`."""
    level = graph.cast(graph.op("Unsqueeze", mu_law_level(graph, x), [2]), np.int64)
    log_probs = graph.op("LogSoftmax", logits, axis=2)
    return graph.op("Squeeze", graph.op("GatherElements", log_probs, level, axis=2), [2])


def _log_sigmoid(graph: Graph, z: str) -> str:
    """Log of the logistic function, exact in both tails."""
    # log sigma(z) = min(z, 0) - log(1 + e^-|z|); the sum loses what the first term keeps
    tail = graph.op("Exp", graph.op("Neg", graph.op("Abs", z)))
    return graph.op("Sub", graph.op("Min", z, 0.0), _log1p(graph, tail))


def _log1p(graph: Graph, x: str) -> str:
    r"""`log(1 + x)` for `x` in [0, 1], small ones too.

    .. math:: \log u \cdot \frac{x}{u - 1}, \quad u = \mathrm{fl}(1 + x)

    References:
        | What every computer scientist should know about floating-point arithmetic (Goldberg,
          1991), theorem 4, https://doi.org/10.1145/103162.103163
    """
    u = graph.op("Add", x, 1.0)
    gained = graph.op("Sub", u, 1.0)
    is_lost = graph.op("Equal", gained, 0.0)
    ratio = graph.op("Div", x, graph.op("Where", is_lost, 1.0, gained))
    return graph.op("Where", is_lost, x, graph.op("Mul", graph.op("Log", u), ratio))


def _log1mexp(graph: Graph, x: str) -> str:
    r"""`log(1 - e^-x)` for `x > 0`.

    .. math:: \log x - \frac x2 + \frac{x^2}{24} - \frac{x^4}{2880} + \frac{x^6}{181440}
        \quad (x < 1)
    """
    square = graph.op("Mul", x, x)
    series = graph.op("Add", graph.op("Mul", square, 1 / 181440), -1 / 2880)
    series = graph.op("Add", graph.op("Mul", series, square), 1 / 24)
    series = graph.op("Sub", graph.op("Mul", series, square), graph.op("Mul", x, 0.5))
    near = graph.op("Add", graph.op("Log", x), series)
    far = graph.op("Log", graph.op("Sub", 1.0, graph.op("Exp", graph.op("Neg", x))))
    return graph.op("Where", graph.op("Less", x, 1.0), near, far)
