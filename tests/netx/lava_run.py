"""Files of netx on Lava, several in one process: starting Lava takes longer than running a small network.

Run as ``python -m tests.netx.lava_run JOBS``: a JSON list of [net, inputs, outputs, bits]. ``inputs`` is .npy
[N, T, ...] in the layout of the network, ``outputs`` is written as .npy [N, T, ...]: the spikes of the last layer, and
beside it ``outputs.membrane.npy``, the membranes of the last layer after the last timestep of the last input. The
window of an input is explained in ``tests/lava/netx_run.py``.
"""

import json
import sys

import numpy as np
from lava.lib.dl.netx.hdf5 import Network
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source


def run(net: str, inputs: str, outputs: str, bits: int) -> None:
    frames = np.load(inputs)
    images, timesteps, *shape = frames.shape
    options = {"input_shape": tuple(shape), "input_message_bits": bits}  # the shape, where the file has none
    network = Network(net, reset_interval=timesteps, reset_offset=1, **options)
    lag = len(network)
    sent = np.moveaxis(frames.reshape(-1, *shape), 0, -1)
    sent = np.concatenate([sent, np.zeros((*shape, lag), sent.dtype)], axis=-1)
    source = Source(data=sent)
    sink = Sink(shape=network.out.shape, buffer=images * timesteps + lag)
    source.s_out.connect(network.inp)
    network.out.connect(sink.a_in)
    network.run(condition=RunSteps(num_steps=images * timesteps + lag), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    found, membrane = sink.data.get(), network.layers[-1].neuron.v.get()
    network.stop()
    np.save(outputs, np.moveaxis(found[..., lag:], -1, 0).reshape(images, timesteps, *network.out.shape))
    np.save(f"{outputs}.membrane.npy", membrane)


def main(jobs: str) -> None:
    with open(jobs) as file:
        for job in json.load(file):
            run(*job)


if __name__ == "__main__":
    main(sys.argv[1])
