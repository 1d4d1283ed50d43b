"""Starting values that models take from data: gain to unit variance, linear predictor."""

import torch
from torch import Tensor


def unit_gain(x: Tensor) -> Tensor:
    """The factor that takes waveforms `x` to unit variance.

    Raises:
        ValueError: If `x` is silent or not finite.
    """
    std = x.std()
    if not torch.isfinite(std) or std <= 0:
        raise ValueError(
            f"the training data has standard deviation {float(std)}; "
            "give recordings that are not silent"
        )
    return 1.0 / std


def waveform_log_scale(model: object, log_scale: float) -> float:
    """A log-scale of the unit-variance signal, in nats of the waveform the laws are of.

    Arguments:
        model: Its `gain` tells the unit; a model without one works on its data as they are.
        log_scale: In nats of the unit-variance signal.
    """
    gain = getattr(model, "gain", None)
    return log_scale if gain is None else log_scale - float(gain.log())


def fit_linear_predictor(x: Tensor, order: int) -> tuple[Tensor, Tensor]:
    r"""Least-squares linear prediction, :math:`x_t \approx \sum_{i=1}^{P} a_i x_{t-i}`.

    Solves the normal equations of the covariance method in float64.

    Arguments:
        x: Signals `(N,)` or `(B, T)`.
        order: Taps `P`.

    Returns:
        The taps `(P,)`, oldest sample first, and the standard deviation of the residual.
    """
    signals = (x if x.dim() == 2 else x.unsqueeze(0)).double()
    windows = signals.unfold(1, order + 1, 1).reshape(-1, order + 1)  # (N, P + 1)
    gram = windows.T @ windows / len(windows)
    # A pure tone makes the equations singular; a millionth of the power keeps the taps finite.
    ridge = 1e-6 * gram[0, 0] * torch.eye(order, dtype=gram.dtype, device=gram.device)
    taps = torch.linalg.solve(gram[:order, :order] + ridge, gram[:order, order])
    residual_std = (windows[:, order] - windows[:, :order] @ taps).std()
    return taps.to(x.dtype), residual_std.to(x.dtype)
