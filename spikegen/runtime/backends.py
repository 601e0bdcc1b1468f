"""The table of backends, and how to build a target by name. Lava is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from spikegen.errors import ConfigError
from spikegen.program import Program, Target
from spikegen.simulator import Simulator

# Backends that hold synapses in several ways -> the ways; the first is the default.
SYNAPSES = {
    "lava-unrolled": ("fast-conv", "sparse", "conv"),
    "loihi2": ("conv", "sparse"),
    "loihi2-sim": ("conv", "sparse"),
}


def _simulator(program: Program, images: int, synapses: str | None, device: str | None) -> Target:  # noqa: ARG001
    return Simulator(program, batch=images, device=device or "cpu")


def _lava(program: Program, images: int, synapses: str | None, device: str | None) -> Target:  # noqa: ARG001
    from spikegen.exporters.lava import LavaTarget  # Lava itself is imported by its worker

    target: Target = LavaTarget(program, images=images)
    return target


def _lava_unrolled(program: Program, images: int, synapses: str | None, device: str | None) -> Target:  # noqa: ARG001
    from spikegen.exporters.lava import LavaTarget

    target: Target = LavaTarget(program, images=images, model="unrolled", synapses=synapses)
    return target


def _loihi2(program: Program, images: int, synapses: str | None, device: str | None) -> Target:  # noqa: ARG001
    from spikegen.exporters.lava import LavaTarget

    target: Target = LavaTarget(program, images=images, model="chip", synapses=synapses, hardware=True)
    return target


def _loihi2_sim(program: Program, images: int, synapses: str | None, device: str | None) -> Target:  # noqa: ARG001
    from spikegen.exporters.lava import LavaTarget

    target: Target = LavaTarget(program, images=images, model="chip", synapses=synapses)
    return target


BACKENDS: dict[str, Callable[[Program, int, str | None, str | None], Target]] = {
    "simulator": _simulator,
    "lava": _lava,
    "lava-unrolled": _lava_unrolled,
    "loihi2": _loihi2,
    "loihi2-sim": _loihi2_sim,
}


# Images per evaluation where nobody chooses: enough to keep a pipeline filled, few enough for memory and progress.
BATCH_MAX = {"simulator": 64, "lava": 64, "lava-unrolled": 32, "loihi2": 32, "loihi2-sim": 32}


def default_batch(backend: str, images: int) -> int:
    """Images per evaluation, so that ``images`` are evaluated in equal parts of at most ``BATCH_MAX[backend]``."""
    parts = -(-images // BATCH_MAX[backend])
    return -(-images // parts)


def open_target(
    backend: str, program: Program, *, images: int, synapses: str | None = None, device: str | None = None
) -> Target:
    """Build ``program`` on a backend; the caller closes the target.

    Args:
        backend: key of :data:`BACKENDS`.
        program: a valid Program.
        images: images of an evaluation (Lava processes are built for a number; fewer take as long, but for lava).
        synapses: how the backend holds the synapses, one of those that :data:`SYNAPSES` has for it; None for the
            default and for backends with one way only.
        device: where the simulator computes, "cpu" or a CUDA device of torch; None for "cpu" and the other backends.

    Raises:
        ConfigError: unknown backend or kind of synapses, or a backend that takes none.
        BackendError: the backend cannot be imported or built.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"backend {backend!r} is unknown; known are {', '.join(sorted(BACKENDS))}")
    if synapses is not None and backend not in SYNAPSES:
        raise ConfigError(f"the backend {backend} takes no synapses; {', '.join(SYNAPSES)} do")
    if synapses is not None and synapses not in SYNAPSES[backend]:
        raise ConfigError(f"synapses {synapses!r} are unknown to {backend}, which has {', '.join(SYNAPSES[backend])}")
    if device is not None and backend != "simulator":
        raise ConfigError(f"the backend {backend} takes no device; simulator does")
    return BACKENDS[backend](program, images, synapses, device)
