r"""Spectral terms: the student's sound against the recording's, whatever the phases.

The divergence alone is content with a whisper; these hold the student to the energy of the data.
All windows are Hann, and every value is relative to the recording's own, so that loudness sets no
unit.
"""

from itertools import pairwise

import torch
from torch import Tensor

from wavestill.distillation.trial import Trial

RESOLUTIONS_S = (0.05, 0.025, 0.01)
"""Windows of the multi-resolution terms in seconds; the hop is a fifth of each. At 24 kHz these
are the 1,200 / 600 / 240 samples of Parallel WaveGAN (Yamamoto et al., 2020, table 1, https://arxiv.org/abs/1910.11480)."""


def power_spectrum(x: Tensor, window_samples: int) -> Tensor:
    r"""Power spectrum :math:`|\mathrm{STFT}(x)|^2`, Hann window, hop a fifth of it.

    Arguments:
        x: Waveforms `(B, T)`.
        window_samples: Length of the window.

    Returns:
        `(B, n_fft // 2 + 1, frames)`, the transform being the next power of two.

    Raises:
        ValueError: If the waveforms are shorter than one transform.
    """
    n_fft = 2 ** (window_samples - 1).bit_length()
    if x.shape[1] < n_fft:
        raise ValueError(
            f"a clip of {x.shape[1]} samples is shorter than the {n_fft} of the spectral term's "
            "transform; make the clips longer"
        )
    window = torch.hann_window(window_samples, device=x.device, dtype=x.dtype)
    spectrum = torch.stft(
        x, n_fft, window_samples // 5, window_samples, window, center=False, return_complex=True
    )
    return spectrum.real.square() + spectrum.imag.square()


class MultiResolutionMagnitude:
    r"""Relative L1 distance of STFT magnitudes, averaged over resolutions.

    .. math:: \frac{1}{R} \sum_r \frac{\sum | |S_r(x)| - |S_r(y)| |}{\sum |S_r(y)|}

    References:
        | ClariNet (Ping et al., 2018), section 3.4 (magnitudes), https://arxiv.org/abs/1807.07281

    Arguments:
        sample_rate: Samples per second.
        resolutions_s: Windows in seconds.
    """

    def __init__(self, sample_rate: int, resolutions_s: tuple[float, ...] = RESOLUTIONS_S) -> None:
        self.windows = [round(sample_rate * seconds) for seconds in resolutions_s]

    def __call__(self, trial: Trial) -> Tensor:
        """The distance of the draw from the recording, 0 at equality."""
        reference = trial.require_reference("magnitude")
        epsilon = _quiet(reference)
        total = reference.new_zeros(())
        for window in self.windows:
            # The slope of the root is infinite at silence, hence the epsilon.
            ours = (power_spectrum(trial.draw.x, window) + epsilon).sqrt()
            theirs = (power_spectrum(reference, window) + epsilon).sqrt()
            total = total + (ours - theirs).abs().sum() / theirs.sum()
        return total / len(self.windows)


class SpectralPower:
    r"""The paper's power loss in bands: the draw's energy against the recording's.

    .. math:: \frac{1}{B} \sum_b \frac{\sum_i | P_b^{(i)}(x) - P_b^{(i)}(y) |}{\sum_i
    P_b^{(i)}(y)},
        \qquad P_b = \sum_{f \in b} |\mathrm{STFT}|^2

    Power adds over uncorrelated parts where magnitudes do not, so its minimum is as loud as the
    data.

    Note:
        The paper takes the squared difference of the spectra averaged over time; that is ruled by
        the loudest vowel and weakens as clips grow (ClariNet, appendix). Here the energy of each
        band is compared frame by frame, each band relative to its own.

    References:
        | Parallel WaveNet (van den Oord et al., 2018), section 4.1, https://arxiv.org/abs/1711.10433

    Arguments:
        sample_rate: Samples per second.
        window_s: Window in seconds.
        num_bands: Bands, equally wide on the mel scale.
    """

    def __init__(self, sample_rate: int, window_s: float = 0.05, num_bands: int = 16) -> None:
        self.window = round(sample_rate * window_s)
        n_fft = 2 ** (self.window - 1).bit_length()
        top = torch.tensor(
            sample_rate / 2 / 700
        ).log1p()  # the mel scale is linear in log(1 + f / 700 Hz)
        edges_hz = 700 * torch.expm1(torch.linspace(0.0, 1.0, num_bands + 1) * top)
        bins = (edges_hz / (sample_rate / n_fft)).round().long().tolist()
        self.bands = [(low, max(high, low + 1)) for low, high in pairwise(bins)]

    def __call__(self, trial: Trial) -> Tensor:
        """The distance of the draw from the recording, 0 at equality."""
        reference = trial.require_reference("power")
        ours, theirs = self._band_power(trial.draw.x), self._band_power(reference)
        floor = _quiet(reference) * len(self.bands)
        per_band = (ours - theirs).abs().sum((0, 2)) / (theirs.sum((0, 2)) + floor)
        return per_band.mean()

    def _band_power(self, x: Tensor) -> Tensor:
        power = power_spectrum(x, self.window)
        return torch.stack(
            [power[:, low:high].sum(1) for low, high in self.bands], dim=1
        )  # (B, bands, frames)


def _quiet(reference: Tensor) -> float:
    """A power 80 dB under the recording's: under it nothing is heard and no gradient is wanted."""
    return 1e-8 * float(reference.square().sum()) + 1e-20
