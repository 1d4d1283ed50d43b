r"""Spectral terms: the student's sound against the recording's, whatever the phases.

The divergence alone is content with a whisper; these hold the student to the energy of the data.
All windows are Hann, and every value is relative to the recording's own, so that loudness sets no
unit.
"""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

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
        | ClariNet (Ping et al., 2018), section 3 (magnitudes), https://arxiv.org/abs/1807.07281

    Arguments:
        sample_rate: Samples per second.
        resolutions_s: Windows in seconds.
    """

    def __init__(self, sample_rate: int, resolutions_s: tuple[float, ...] = RESOLUTIONS_S) -> None:
        self.windows = [round(sample_rate * seconds) for seconds in resolutions_s]

    def __call__(self, trial: Trial) -> Tensor:
        """The distance of the draw from the recording, 0 at equality."""
        reference = trial.require_reference("magnitude")
        epsilon = quiet_power(reference)
        total = reference.new_zeros(())
        for window in self.windows:
            # The slope of the root is infinite at silence, hence the epsilon.
            ours = (power_spectrum(trial.draw.x, window) + epsilon).sqrt()
            theirs = (power_spectrum(reference, window) + epsilon).sqrt()
            total = total + (ours - theirs).abs().sum() / theirs.sum()
        return total / len(self.windows)


class SpectralPower:
    r"""The power loss, in bands and stretches: the draw's log-energies against the recording's.

    .. math:: \frac{1}{N} \sum_{b, i} \big| \log P_b^{(i)}(x) - \log P_b^{(i)}(y) \big|, \qquad
        P_b^{(i)} = \sum_{f \in b, \, \tau \in i} |\mathrm{STFT}_{f\tau}|^2

    over bands `b` and stretches of time `i`. Where draw and recording are equally random it is
    least at equal energies; a distance of magnitudes is least below them, since a magnitude that
    cannot be foretold is best guessed low.

    Note:
        The paper takes the squared difference of spectra averaged over the clip; that is ruled by
        the loudest vowel and weakens as clips grow (ClariNet, appendix), hence logarithms and
        short stretches.

    References:
        | Parallel WaveNet (van den Oord et al., 2018), section 4.1, https://arxiv.org/abs/1711.10433

    Arguments:
        sample_rate: Samples per second.
        window_s: Window of the transform in seconds.
        stretch_s: Stretch of time whose energy is compared, in seconds.
        num_bands: Bands, equally wide on the mel scale.
    """

    def __init__(
        self,
        sample_rate: int,
        window_s: float = 0.025,
        stretch_s: float = 0.1,
        num_bands: int = 16,
    ) -> None:
        self.window = round(sample_rate * window_s)
        self.frames = max(1, round(5 * stretch_s / window_s))  # the hop is a fifth of the window
        n_fft = 2 ** (self.window - 1).bit_length()
        top = torch.tensor(sample_rate / 2 / 700).log1p()  # mels are linear in log(1 + f / 700 Hz)
        edges_hz = 700 * torch.expm1(torch.linspace(0.0, 1.0, num_bands + 1) * top)
        bins = (edges_hz / (sample_rate / n_fft)).round().long().tolist()
        self.bands = [(low, max(high, low + 1)) for low, high in pairwise(bins)]

    def __call__(self, trial: Trial) -> Tensor:
        """The distance of the draw from the recording in nats of energy, 0 at equality."""
        reference = trial.require_reference("power")
        ours, theirs = self._energies(trial.draw.x), self._energies(reference)
        # 30 dB under a band's mean nothing is heard beside the rest; a floor keeps silence finite.
        floor = 1e-3 * theirs.mean((0, 2), keepdim=True) + quiet_power(reference)
        return ((ours + floor).log() - (theirs + floor).log()).abs().mean()

    def _energies(self, x: Tensor) -> Tensor:
        power = power_spectrum(x, self.window)
        bands = torch.stack([power[:, low:high].sum(1) for low, high in self.bands], dim=1)
        frames = min(self.frames, bands.shape[-1])
        return avg_pool1d(bands, frames)  # (B, bands, stretches)


def quiet_power(reference: Tensor) -> float:
    """A power 80 dB under the recording's: under it nothing is heard and no gradient is wanted."""
    return 1e-8 * float(reference.detach().square().sum()) + 1e-20
