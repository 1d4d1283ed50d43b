"""What Prometheus asks for."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from wavestill.serving.engine import Engine

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counters of one service, in a registry of their own.

    Arguments:
        engine: Whose queue is shown.
        draining: Whether the service is about to end.
    """

    def __init__(self, engine: Engine, draining: Callable[[], bool]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "wavestill_requests_total",
            "Answers by path and status (499: the client left)",
            ("path", "status"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "wavestill_request_seconds",
            "Time from the request's head to the end of its answer",
            ("path",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_sound_seconds = Histogram(
            "wavestill_first_sound_seconds",
            "Time from a request's last byte to its first sound",
            ("sampler",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.sound_seconds = Counter(
            "wavestill_sound_seconds_total",
            "Seconds of sound delivered",
            ("sampler",),
            registry=registry,
        )
        for name, text, value in (
            ("wavestill_waiting", "Sounds ordered and not begun", lambda: engine.num_waiting),
            ("wavestill_active", "Drawings in the making", lambda: engine.num_active),
            ("wavestill_in_house", "Requests that hold a place", lambda: engine.num_in_house),
            ("wavestill_places", "Places for requests", lambda: engine.limits.places),
            ("wavestill_draining", "1 when no new work is taken", draining),
        ):
            Gauge(name, text, registry=registry).set_function(_number(value))

    @property
    def total_sound_seconds(self) -> float:
        """Seconds of sound delivered, by any sampler."""
        return float(
            sum(
                sample.value
                for family in self.sound_seconds.collect()
                for sample in family.samples
                if sample.name.endswith("_total")
            )
        )

    def text(self) -> bytes:
        """In Prometheus' own format."""
        return generate_latest(self._registry)


def _number(value: Callable[[], float]) -> Callable[[], float]:
    return lambda: float(value())
