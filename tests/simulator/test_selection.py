"""Which kernel computes what: none that rounds, and of the others the fastest."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from spikegen.errors import BackendError, ConfigError
from spikegen.simulator import Simulator, kernels, selection
from spikegen.simulator.kernels import KERNELS, Convolution, FloatKernel, Int8Kernel, Kernel, MatmulKernel
from spikegen.simulator.numpy_engine import NumpyEngine
from spikegen.simulator.selection import Choice, Selection, is_exact
from spikegen.simulator.torch_engine import TorchEngine
from tests.program.examples import every_primitive

CPU = torch.device("cpu")


def convolution(name: str = "w", channels: int = 5, value: int = 0) -> Convolution:
    generator = torch.Generator().manual_seed(value)
    weight = torch.randint(-128, 128, (4, channels, 3, 3), dtype=torch.int8, generator=generator)
    return Convolution(name, weight, (channels, 6, 5), padding=(1, 1))


class Rounding(FloatKernel):
    """Products of bfloat16."""

    def __call__(self, messages: Tensor, into: Tensor | None = None) -> Tensor:
        found = super().__call__(messages).bfloat16().float()
        return found if into is None else into.add_(found)


def refusing(*_: Any) -> Kernel:
    """Another version of torch, another device."""
    raise RuntimeError("could not create a primitive descriptor")


class Failing(FloatKernel):
    """Finds out late that it cannot."""

    error: type[Exception] = RuntimeError

    def __call__(self, *_: Any) -> Tensor:
        raise self.error("no such operation")


class Overwriting(FloatKernel):
    """Forgets what was there."""

    def __call__(self, messages: Tensor, into: Tensor | None = None) -> Tensor:
        found = super().__call__(messages)
        return found if into is None else into.copy_(found)


class Elsewhere(FloatKernel):
    """Adds, but not in place."""

    def __call__(self, messages: Tensor, into: Tensor | None = None) -> Tensor:
        found = super().__call__(messages)
        return found if into is None else into + found


def unscaled(conv: Convolution, _: float) -> Kernel:
    """Ignores the factor."""
    return FloatKernel(conv, 1.0)


class Once(FloatKernel):
    """Computes the first frame only."""

    def __call__(self, messages: Tensor, into: Tensor | None = None) -> Tensor:
        found = super().__call__(messages)
        found[1:] = 0
        return found if into is None else into.add_(found)


@pytest.mark.parametrize("kernel", [Rounding, refusing, Failing, Overwriting, Elsewhere, unscaled, Once])
def test_kernels_that_are_wrong_are_not_exact(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KERNELS, "wrong", kernel)
    assert not is_exact("wrong", convolution(), 15, CPU)


@pytest.mark.parametrize("error", [RuntimeError, AttributeError, TypeError])
def test_kernels_that_torch_does_not_have_are_not_exact(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KERNELS, "wrong", Failing)
    monkeypatch.setattr(Failing, "error", error)
    assert not is_exact("wrong", convolution(), 15, CPU)


@pytest.mark.parametrize("name", ["int8", "float32", "matmul"])
def test_the_kernels_are_exact_here(name: str) -> None:
    assert is_exact(name, convolution(), 1, CPU)
    if name != "int8":
        assert is_exact(name, convolution(), (1 << 24) // (128 * 45) - 1, CPU)


def test_without_the_operation_of_torch_there_is_no_byte_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_ONEDNN", object())
    assert not is_exact("int8", convolution(), 1, CPU)
    assert Selection(("int8", "float32"), CPU).choose(convolution(), 2, spikes=True, reach=1).kernel == "float32"


def measured(monkeypatch: pytest.MonkeyPatch, seconds: dict[type[Kernel], float]) -> list[tuple[type, tuple[int, ...]]]:
    """Measurements give ``seconds``; returns the list to which their kernels and messages are added."""
    calls = []

    def time(kernel: Kernel, messages: Tensor, device: torch.device) -> float:
        assert device == CPU
        calls.append((type(kernel), tuple(messages.shape)))
        return seconds[type(kernel)]

    monkeypatch.setattr(selection, "_time", time)
    return calls


@pytest.mark.parametrize("fastest", ["int8", "float32", "matmul"])
def test_the_fastest_exact_kernel_is_taken(fastest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"int8": Int8Kernel, "float32": FloatKernel, "matmul": MatmulKernel}
    seconds = {name: 1.0 if name == fastest else 2.0 for name in names}
    calls = measured(monkeypatch, {names[name]: value for name, value in seconds.items()})
    found = Selection(tuple(names), CPU).choose(convolution(), 7, spikes=True, reach=1)
    assert found == Choice(fastest, seconds, 7, 4 * 45 * 30)
    assert calls == [(kernel, (7, 5, 6, 5)) for kernel in names.values()]


def test_the_fastest_is_not_taken_if_it_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KERNELS, "rounding", Rounding)
    measured(monkeypatch, {Rounding: 1.0, FloatKernel: 2.0, MatmulKernel: 3.0})
    found = Selection(("rounding", "matmul", "float32"), CPU).choose(convolution(), 2, spikes=False, reach=99)
    assert (found.kernel, found.seconds) == ("float32", {"matmul": 3.0, "float32": 2.0})


@pytest.mark.parametrize(("float32", "taken"), [(0.79, "float32"), (0.81, "int8"), (3.0, "int8")])
def test_a_kernel_must_be_clearly_faster_than_one_that_is_preferred(
    float32: float, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, {Int8Kernel: 1.0, FloatKernel: float32})
    assert Selection(("int8", "float32"), CPU).choose(convolution(), 2, spikes=True, reach=1).kernel == taken


def test_one_exact_kernel_needs_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_time", None)
    monkeypatch.setitem(KERNELS, "rounding", Rounding)
    found = Selection(("rounding", "float32"), CPU).choose(convolution(), 2, spikes=False, reach=99)
    assert found == Choice("float32", {}, 2, 4 * 45 * 30)


def test_bytes_are_for_spikes(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, {Int8Kernel: 1.0, FloatKernel: 2.0})
    chosen = Selection(("int8", "float32"), CPU)
    kinds = [chosen.choose(convolution(), 2, spikes=spikes, reach=1).kernel for spikes in (True, False, True)]
    assert kinds == ["int8", "float32", "int8"]


def test_one_geometry_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = measured(monkeypatch, {Int8Kernel: 1.0, FloatKernel: 2.0})
    chosen = Selection(("int8", "float32"), CPU)
    first = chosen.choose(convolution("a"), 2, spikes=True, reach=1)
    assert chosen.choose(convolution("b", value=1), 9, spikes=True, reach=1) is first
    assert len(calls) == 2
    assert chosen.choose(convolution("c", channels=6), 2, spikes=True, reach=1) is not first
    assert len(calls) == 4


def test_a_kernel_that_holds_small_messages_only_is_tried_again_for_larger_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Products of fewer bits, such as TF32, are exact for spikes and for few bits."""

    class Eleven(FloatKernel):
        """Messages of 11 bits."""

        def __call__(self, messages: Tensor, into: Tensor | None = None) -> Tensor:
            step = torch.clamp(messages.abs().log2().floor() - 10, min=0).exp2()
            return super().__call__((messages / step).trunc() * step, into)

    monkeypatch.setitem(KERNELS, "eleven", Eleven)
    chosen = Selection(("eleven",), CPU)
    assert chosen.choose(convolution(channels=1), 2, spikes=False, reach=1000).kernel == "eleven"
    with pytest.raises(BackendError, match="none of the kernels eleven is exact"):
        chosen.choose(convolution(channels=1), 2, spikes=False, reach=10000)


def test_windows_of_nothing_but_padding_are_left_to_the_matrix_product() -> None:
    """Torch's other convolutions end the process in some of these geometries."""
    deaf = Convolution("w", torch.ones((1, 1, 1, 1), dtype=torch.int8), (1, 1, 1), (1, 2), (0, 1))
    assert not deaf.ordinary
    for name, kernel in (("int8", Int8Kernel), ("float32", FloatKernel)):
        assert not is_exact(name, deaf, 1, CPU)
        message = f"^w: some windows meet nothing but padding, which the kernel {name} does not compute$"
        with pytest.raises(BackendError, match=message):
            kernel(deaf, 1.0)
    assert is_exact("matmul", deaf, 1, CPU)
    assert Selection(("int8", "float32"), CPU).choose(deaf, 2, spikes=True, reach=1).kernel == "matmul"
    column = torch.ones((1, 1, 2, 1), dtype=torch.int8)
    for changes, ordinary in (
        ({"padding": (0, 0)}, True),
        ({"stride": (1, 1)}, False),  # the first and the last output hear nothing
        ({"stride": (2, 1), "padding": (1, 0)}, False),
        ({"weight": column, "stride": (1, 1), "padding": (1, 0)}, True),
        ({"weight": column, "stride": (1, 1), "padding": (2, 0)}, False),
        ({"weight": column, "stride": (1, 1), "padding": (2, 0), "dilation": (2, 1)}, True),
        ({"weight": column, "stride": (2, 1), "padding": (1, 0), "dilation": (2, 1)}, False),  # taps at -1 and 1
    ):
        assert dataclasses.replace(deaf, **changes).ordinary == ordinary, changes


def test_the_spare_kernel_is_for_what_the_others_do_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KERNELS, "rounding", Rounding)
    monkeypatch.setattr(selection, "_time", None)
    names = [
        Selection(first, CPU, ("matmul",)).choose(convolution(), 2, spikes=False, reach=99).kernel
        for first in (("rounding",), ("float32",))
    ]
    assert names == ["matmul", "float32"]


def test_what_torch_computes_wrong_is_computed_all_the_same() -> None:
    """A horizontal stride to a single column, of which oneDNN of torch 2.3 reads memory that is not its own."""
    weight = torch.tensor([2, -59, -50], dtype=torch.int8).view(1, 1, 1, 3)
    wide = Convolution("w", weight, (1, 2, 2), (1, 2), (0, 1))
    chosen = Selection(("int8", "float32"), CPU, ("matmul",)).choose(wide, 2, spikes=True, reach=1)
    assert is_exact(chosen.kernel, wide, 1, CPU)


def test_without_an_exact_kernel() -> None:
    text = "w: none of the kernels int8 is exact on cpu; use engine='numpy'"
    with pytest.raises(BackendError, match=f"^{re.escape(text)}$"):
        Selection(("int8",), CPU).choose(convolution(), 2, spikes=False, reach=1)
    with pytest.raises(BackendError, match="none of the kernels int8, copy is exact on cpu"):
        Simulator(every_primitive(), kernels=("int8", "copy"))


def test_the_measurement_is_the_best_of_some_runs_after_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_REPEATS", 2)
    ticks = iter((0.0, 10.0, 13.0, 20.0, 22.0))  # the first run is not measured, then 3 s and 2 s
    runs: list[Tensor] = []
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    kernel: Any = runs.append
    messages = torch.zeros(1)
    assert selection._time(kernel, messages, CPU) == 2.0
    assert runs == [messages] * 3


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"engine": "jax"}, "engine is 'jax', it must be one of torch, numpy"),
        ({"engine": ""}, "engine is '', it must be one of torch, numpy"),
        ({"engine": "numpy", "device": "cuda"}, "device and kernels are those of the engine torch"),
        ({"engine": "numpy", "kernels": ("int8",)}, "device and kernels are those of the engine torch"),
        ({"kernels": ("int8", "int4")}, "kernel 'int4' is unknown; there are int8, float32, matmul, copy"),
        ({"device": "gpu"}, "device 'gpu' is unknown: cpu, cuda or cuda:0"),
        ({"device": "meta"}, "device is 'meta', it must be cpu or cuda"),
    ],
)
def test_options_that_do_not_exist_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        Simulator(every_primitive(), **options)


def test_cuda_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    text = f"device is 'cuda', but torch {torch.__version__} sees no CUDA device here"
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        Simulator(every_primitive(), device="cuda")


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec: Callable[..., object] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find_spec(name))
    assert isinstance(Simulator(every_primitive()).engine, NumpyEngine)
    text = "engine is 'torch', which is not installed: pip install 'spikegen[torch]'"
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        Simulator(every_primitive(), engine="torch")
    options: tuple[dict[str, Any], ...] = ({"device": "cuda"}, {"kernels": ("int8",)})
    for each in options:
        with pytest.raises(ConfigError, match=r"^device and kernels are those of the engine torch$"):
            Simulator(every_primitive(), **each)


def test_torch_is_taken_where_it_is() -> None:
    assert isinstance(Simulator(every_primitive()).engine, TorchEngine)
    assert isinstance(Simulator(every_primitive(), engine="torch").engine, TorchEngine)
    assert isinstance(Simulator(every_primitive(), engine="numpy").engine, NumpyEngine)


def test_the_kernels_that_suit_the_cpu() -> None:
    program = every_primitive()
    names = {name for choices in TorchEngine(program).choices.values() for c in choices for name in c.seconds}
    assert names == {"int8", "float32"}
    only = Simulator(program, kernels=("matmul",)).engine
    assert isinstance(only, TorchEngine)
    assert {c.kernel for choices in only.choices.values() for c in choices} == {"matmul"}
    # the currents of out have no bound that float32 holds
    assert set(only.choices) == {p.name for p in program.projections if p.name != "r>out"}
