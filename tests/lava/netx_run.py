"""lava-dl's own path: a file of export_hdf5 as processes of netx, with spike trains as input.

Run as ``python -m tests.lava.netx_run NET INPUTS OUTPUTS``: INPUTS is .npy [N, T, features] of 0 and 1, OUTPUTS is
written as .npy [N, T, classes].

The window of an image. The source sends step t of image n at Lava's timestep n T + t + 1 (time begins at 1), and every
block adds one timestep, so block k (from 1) gets it at n T + t + 1 + k. netx resets block k at the timesteps that are
``reset_offset + k`` modulo T before it adds what it gets, so ``reset_offset = 1`` resets block k at n T + 1 + k: the
first step of every image. The sink keeps timestep s at index s - 1: of L blocks, step t of image n is at n T + t + L.
"""

import sys

import numpy as np
from lava.lib.dl.netx.hdf5 import Network
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source


def main(file: str, inputs: str, outputs: str) -> None:
    frames = np.load(inputs)
    images, timesteps, features = frames.shape
    network = Network(file, reset_interval=timesteps, reset_offset=1)
    steps = images * timesteps + len(network)
    source = Source(data=np.pad(frames.reshape(-1, features).T, ((0, 0), (0, len(network)))))
    sink = Sink(shape=network.out.shape, buffer=steps)
    source.s_out.connect(network.inp)
    network.out.connect(sink.a_in)
    network.run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    found = sink.data.get()
    network.stop()
    np.save(outputs, found[:, len(network) :].T.reshape(images, timesteps, -1))


if __name__ == "__main__":
    main(*sys.argv[1:])
