"""The table of NIR primitives. It drives import, its checks, the tests and the support table of the docs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from spikegen.exporters.nir import delays, linear, neurons
from spikegen.exporters.nir.builder import Builder, Wire
from spikegen.exporters.nir.structure import NirNode

Handler = Callable[[Builder, NirNode, Wire], Wire]


@dataclass(frozen=True)
class Primitive:
    """One row of the support table.

    Attributes:
        required, optional: its parameters.
        becomes: what it is in a Program.
        written: what of a Program is written as this; "" if nothing.
        handler: makes its operations; None for the ends of the graph.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    becomes: str
    written: str = ""
    handler: Handler | None = None


PRIMITIVES: Mapping[str, Primitive] = {
    "Input": Primitive(("shape",), (), "the Input port, one of each graph", "the Input port"),
    "Output": Primitive(("shape",), (), "a Readout: spikes or currents of every timestep", "a Readout"),
    "Conv2d": Primitive(
        ("weight", "bias", "stride", "padding", "dilation", "groups"),
        ("input_shape",),
        "Conv projections",
        "a Conv projection",
        linear.conv2d,
    ),
    "Conv1d": Primitive(
        ("weight", "bias", "stride", "padding", "dilation", "groups"),
        ("input_shape",),
        "Conv projections of one row",
        handler=linear.conv1d,
    ),
    "Linear": Primitive(
        ("weight",), (), "a Conv as large as the image", "a Dense, or a kernel of the size of the image", linear.affine
    ),
    "Affine": Primitive(
        ("weight", "bias"),
        (),
        "the same, and biases of the population behind it",
        "the same with the biases behind it",
        linear.affine,
    ),
    "Scale": Primitive(
        ("scale",),
        (),
        "folded into the convolution before it; one factor per channel",
        "a Relay, or one factor per channel",
        linear.scale,
    ),
    "AvgPool2d": Primitive(("kernel_size", "stride", "padding"), (), "depthwise Conv", handler=linear.average_pool),
    "SumPool2d": Primitive(("kernel_size", "stride", "padding"), (), "depthwise Conv", handler=linear.sum_pool),
    "Flatten": Primitive(
        ("start_dim", "end_dim"), ("input_type",), "nothing", "between an image and Linear or Affine", linear.flatten
    ),
    "IF": Primitive(
        ("r", "v_threshold"), ("v_reset",), "a Lif without leak", "a Lif without leak", neurons.integrate_and_fire
    ),
    "LIF": Primitive(("tau", "r", "v_leak", "v_threshold"), ("v_reset",), "a Lif", "a Lif that leaks", neurons.leaky),
    "CubaLIF": Primitive(
        ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold"),
        ("v_reset", "w_in"),
        "a Lif whose current decays",
        "a Lif whose current decays and whose membrane leaks",
        neurons.current_based,
    ),
    "Delay": Primitive(
        ("delay",),
        (),
        "axonal delays of the neurons before it, or of IF neurons that copy the spikes",
        "axonal delays",
        delays.delay,
    ),
}

# What a Program has no place for, and what to do instead.
REFUSED: Mapping[str, str] = {
    "I": "its membrane never fires; use IF, or end the graph with the layer before it and sum on the host",
    "LI": "its membrane never fires; use LIF, or end the graph with the layer before it and filter on the host",
    "CubaLI": "its membrane never fires; use CubaLIF, or end the graph with the layer before it and filter on the host",
    "Threshold": "a threshold without a membrane; use LIF with a tau just above dt, which forgets, or IF, which sums",
}
