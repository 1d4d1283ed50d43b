"""One peer, in its own environment: `python peer_worker.py NAME PRECISION THREADS SECONDS`.

Networks of the peers' published shapes with random weights: speed does not depend on them. Mel
frames are random; batch 1; weight normalisation is folded where the peer can do so, as for use.
"""

import importlib.machinery
import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from worker_protocol import serve


class Peer(NamedTuple):
    """A network, how it makes sound of mel frames `(1, F, C)`, and what its frames are."""

    package: str
    network: nn.Module
    sound: Callable[[Tensor], Tensor]
    num_mels: int
    hop_samples: int
    sample_rate_hz: int


def hifigan_v1() -> Peer:
    """HiFi-GAN V1's own layout (Kong et al., 2020, table 5) on 24 kHz."""
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    config = SpeechT5HifiGanConfig(
        sampling_rate=24000, upsample_rates=[8, 8, 2, 2], upsample_kernel_sizes=[16, 16, 4, 4]
    )
    network = SpeechT5HifiGan(config)
    return Peer("transformers", network, network, 80, 256, 24000)


def speecht5_hifigan() -> Peer:
    """SpeechT5's HiFi-GAN as transformers makes it by default, 16 kHz."""
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    network = SpeechT5HifiGan(SpeechT5HifiGanConfig())
    return Peer("transformers", network, network, 80, 256, 16000)


def univnet() -> Peer:
    """UnivNet-c32 as transformers makes it by default, 24 kHz."""
    from transformers import UnivNetConfig, UnivNetModel

    network = UnivNetModel(UnivNetConfig())
    return Peer("transformers", network, lambda mel: network(mel).waveforms, 100, 256, 24000)


def vocos() -> Peer:
    """Vocos, the published mel configuration at 24 kHz."""
    stub("torchaudio", "torchaudio.functional", "torchaudio.functional.functional", "encodec")
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone

    backbone = VocosBackbone(input_channels=100, dim=512, intermediate_dim=1536, num_layers=8)
    head = ISTFTHead(dim=512, n_fft=1024, hop_length=256, padding="center")
    network = nn.ModuleList([backbone, head])

    def sound(mel: Tensor) -> Tensor:
        return head(backbone(mel.mT).float())  # there is no inverse Fourier transform in bfloat16

    return Peer("vocos", network, sound, 100, 256, 24000)


def parallel_wavegan() -> Peer:
    """Parallel WaveGAN v1 at 24 kHz, hop 300."""
    mend_scipy()
    from parallel_wavegan.models import ParallelWaveGANGenerator

    network = ParallelWaveGANGenerator(
        aux_context_window=2, upsample_params={"upsample_scales": [4, 5, 3, 5]}
    )
    network.remove_weight_norm()
    return Peer("parallel_wavegan", network, lambda mel: network.inference(mel[0]), 80, 300, 24000)


def multiband_melgan() -> Peer:
    """Multi-band MelGAN v2 at 24 kHz, hop 300, with its synthesis filter bank."""
    mend_scipy()
    from parallel_wavegan.layers import PQMF
    from parallel_wavegan.models import MelGANGenerator

    network = MelGANGenerator(
        in_channels=80, out_channels=4, channels=384, upsample_scales=[5, 5, 3], stacks=4
    )
    network.remove_weight_norm()
    network.pqmf = PQMF(subbands=4)
    return Peer("parallel_wavegan", network, lambda mel: network.inference(mel[0]), 80, 300, 24000)


PEERS: dict[str, Callable[[], Peer]] = {
    maker.__name__: maker
    for maker in (
        hifigan_v1,
        speecht5_hifigan,
        univnet,
        vocos,
        parallel_wavegan,
        multiband_melgan,
    )
}


class Anything(ModuleType):
    """A module that has every name: for imports that the network itself does not use."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (nn.Module,), {})


def stub(*names: str) -> None:
    """Put modules that have every name where no build of the real ones matches this torch."""
    for name in names:
        module = Anything(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        sys.modules[name] = module


def mend_scipy() -> None:
    """Give `scipy.signal` back the window that newer releases moved."""
    import scipy.signal

    scipy.signal.kaiser = scipy.signal.windows.kaiser


def main() -> None:
    """Build the peer and answer."""
    name, precision, num_threads, seconds = sys.argv[1:]
    torch.manual_seed(0)
    torch.set_num_threads(int(num_threads))
    peer = PEERS[name]()
    peer.network.eval()
    num_frames = round(float(seconds) * peer.sample_rate_hz / peer.hop_samples)
    mel = torch.randn(1, num_frames, peer.num_mels)

    @torch.no_grad()
    def run() -> Tensor:
        low = precision == "bfloat16"
        with torch.autocast("cpu", torch.bfloat16) if low else nullcontext():
            return peer.sound(mel)

    num_samples = run().numel()

    serve(
        run,
        packages=[peer.package],
        about={
            "parameters": sum(parameter.numel() for parameter in peer.network.parameters()),
            "sample_rate_hz": peer.sample_rate_hz,
            "num_samples": num_samples,
        },
    )


if __name__ == "__main__":
    main()
