"""The table of backends, and how to build a target by name. Lava and ONNX are imported only when asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spikegen.errors import ConfigError
from spikegen.program import Program, Target
from spikegen.simulator import Simulator

# Backends that hold synapses in several ways -> the ways; the first is the default.
SYNAPSES = {
    "lava-unrolled": ("fast-conv", "sparse", "conv"),
    "loihi2": ("conv", "sparse"),
    "loihi2-sim": ("conv", "sparse"),
}

LOIHI2_TIMEOUT = 3600.0  # seconds: Lava compiles for cores, and waits for Slurm to lend a board


@dataclass(frozen=True)
class Options:
    """What some backends can be told: see :func:`open_target`."""

    synapses: str | None
    device: str | None
    check_size: bool


def _simulator(program: Program, images: int, options: Options) -> Target:
    return Simulator(program, batch=images, device=options.device or "cpu")


def _lava(program: Program, images: int, options: Options) -> Target:  # noqa: ARG001
    from spikegen.exporters.lava import LavaTarget  # Lava itself is imported by its worker

    target: Target = LavaTarget(program, images=images)
    return target


def _lava_unrolled(program: Program, images: int, options: Options) -> Target:
    from spikegen.exporters.lava import LavaTarget

    target: Target = LavaTarget(program, images=images, model="unrolled", synapses=options.synapses)
    return target


def _loihi2(program: Program, images: int, options: Options) -> Target:
    from spikegen.exporters.lava import LavaTarget

    target: Target = LavaTarget(
        program,
        images=images,
        model="chip",
        synapses=options.synapses,
        hardware=True,
        check_size=options.check_size,
        timeout=LOIHI2_TIMEOUT,
    )
    return target


def _loihi2_sim(program: Program, images: int, options: Options) -> Target:
    from spikegen.exporters.lava import LavaTarget

    target: Target = LavaTarget(program, images=images, model="chip", synapses=options.synapses)
    return target


def _onnx(program: Program, images: int, options: Options) -> Target:  # noqa: ARG001
    from spikegen.exporters.onnx import OnnxTarget

    target: Target = OnnxTarget(program, batch=images)
    return target


BACKENDS: dict[str, Callable[[Program, int, Options], Target]] = {
    "simulator": _simulator,
    "lava": _lava,
    "lava-unrolled": _lava_unrolled,
    "loihi2": _loihi2,
    "loihi2-sim": _loihi2_sim,
    "onnx": _onnx,
}


# Images per evaluation where nobody chooses: enough to keep a pipeline filled, few enough for memory and progress.
BATCH_MAX = {"simulator": 64, "lava": 64, "lava-unrolled": 32, "loihi2": 32, "loihi2-sim": 32, "onnx": 64}


def default_batch(backend: str, images: int) -> int:
    """Images per evaluation, so that ``images`` are evaluated in equal parts of at most ``BATCH_MAX[backend]``."""
    parts = -(-images // BATCH_MAX[backend])
    return -(-images // parts)


def open_target(
    backend: str,
    program: Program,
    *,
    images: int,
    synapses: str | None = None,
    device: str | None = None,
    check_size: bool = True,
) -> Target:
    """Build ``program`` on a backend; the caller closes the target.

    Args:
        backend: key of :data:`BACKENDS`.
        program: a valid Program.
        images: images of an evaluation (Lava processes are built for a number; fewer take as long, but for lava).
        synapses: how the backend holds the synapses, one of those that :data:`SYNAPSES` has for it; None for the
            default and for backends with one way only.
        device: where the simulator computes, "cpu" or a CUDA device of torch; None for "cpu" and the other backends.
        check_size: whether loihi2 refuses what by ``spikegen check`` does not fit its board.

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
    return BACKENDS[backend](program, images, Options(synapses, device, check_size))
