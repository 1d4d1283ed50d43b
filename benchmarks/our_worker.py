"""One of ours, in the same rounds as the peers: `python our_worker.py NAME THREADS SECONDS`.

The names are those of `wavestill bench`; the networks are its reference shapes at 24 kHz.
"""

import sys

import torch
from worker_protocol import serve

from wavestill.evaluation.bench.subject import reference_subject
from wavestill.evaluation.bench.table import samplers


def main() -> None:
    """Make the sampler ready and answer."""
    name, num_threads, seconds = sys.argv[1:]
    torch.set_num_threads(int(num_threads))
    subject = reference_subject()
    sampler = samplers(subject, None, int(num_threads))[0][name]
    network = subject.student if name.startswith("student") else subject.teacher
    num_samples = round(float(seconds) * subject.sample_rate)
    serve(
        lambda: sampler.draw(num_samples),
        packages=["wavestill"],
        about={
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "sample_rate_hz": subject.sample_rate,
            "num_samples": num_samples,
        },
    )


if __name__ == "__main__":
    main()
