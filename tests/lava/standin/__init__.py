"""A STAND-IN for Intel's lava-loihi, which is not public: nothing here is Intel's, and nothing here runs on a chip.

It has the modules, classes, ports and arguments that public code uses, so that the way to Loihi 2 can be walked to its
end on any computer:

- ``lava.utils.loihi2_profiler``, which lava-nc 0.10.0 (lava/utils/loihi.py) looks for;
- ``lava.magma.compiler.subcompilers.nc.ncproc_compiler.CompilerOptions`` (lava/utils/system.py);
- ``AbstractNcProcessModel`` and ``CLoihiProcessModel`` (lava/magma/core/run_configs.py);
- ``lava.proc.embedded_io.spike`` with ``PyToNxAdapter(shape, num_message_bits)``, ``NxToPyAdapter(shape,
  num_message_bits)`` (lava/networks/gradedvecnetwork.py) and ``PyToN3ConvAdapter(shape, num_message_bits, spike_exp,
  compression)`` (lava-dl, commit d825ac5, tutorials pilotnet_sdnn);
- models "for neuro-cores" of stock processes, which are Lava's CPU models under another name, in the place where
  lava-loihi has its own: other files of the same namespace packages.

Lava chooses these models as it would those of lava-loihi. Its compiler then treats them as what they are, models for
the CPU: it also looks for classes that are left out here, and without them does not look for a board.

What this cannot show: that the chip computes what Lava's CPU models compute.
"""

from __future__ import annotations

from pathlib import Path

STEPS = "STANDIN_STEPS"  # environment variable: timesteps that every adapter takes, default 0
LOG = "STANDIN_LOG"  # environment variable: a file to which every adapter writes a line of JSON

_BASES = {
    "lava/magma/core/model/nc/model.py": "class AbstractNcProcessModel:\n    pass\n",
    "lava/magma/core/model/c/model.py": "class CLoihiProcessModel:\n    pass\n",
    "lava/magma/compiler/subcompilers/nc/ncproc_compiler.py": "class CompilerOptions:\n    verbose = False\n",
    "lava/utils/loihi2_profiler.py": "",
}

# Folder -> Process -> CPU model. Conv obeys its exponent here, which Lava's own CPU model ignores.
_STOCK = {
    "lif": {"LIF": "lava.proc.lif.models.PyLifModelBitAcc", "LIFReset": "lava.proc.lif.models.PyLifResetModelBitAcc"},
    "graded": {"GradedVec": "lava.proc.graded.models.PyGradedVecModelFixed"},
    "conv": {"Conv": "spikegen.exporters.lava.processes.stock.FastConv"},
    "dense": {
        "Dense": "lava.proc.dense.models.PyDenseModelBitAcc",
        "DelayDense": "lava.proc.dense.models.PyDelayDenseModelBitAcc",
    },
    "sparse": {
        "Sparse": "lava.proc.sparse.models.PySparseModelBitAcc",
        "DelaySparse": "lava.proc.sparse.models.PyDelaySparseModelBitAcc",
    },
}

_MODEL = """
from {module} import {model} as {process}Base
from lava.proc.{folder}.process import {process}


@implements(proc={process}, protocol=LoihiProtocol)
@requires(Loihi2NeuroCore)
class Nc{process}({process}Base, AbstractNcProcessModel):
    pass
"""

_MODELS_HEAD = """
from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.nc.model import AbstractNcProcessModel
from lava.magma.core.resources import Loihi2NeuroCore
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
"""

_ADAPTERS = """
import json
import os

import numpy as np
from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

VARIABLES = ("SLURM", "NOSLURM", "LOIHI_GEN", "PARTITION", "BOARD", "NXSDKHOST")


class Adapter(AbstractProcess):
    def __init__(self, shape, num_message_bits, **others):
        super().__init__(shape=shape, num_message_bits=num_message_bits)
        self.inp = InPort(shape=shape)
        self.out = OutPort(shape=shape)
        if "STANDIN_LOG" in os.environ:
            entry = {"adapter": type(self).__name__, "shape": shape, "bits": num_message_bits, **others}
            entry["environment"] = {name: os.environ[name] for name in VARIABLES if name in os.environ}
            with open(os.environ["STANDIN_LOG"], "a") as log:
                log.write(json.dumps(entry) + "\\n")


class PyToNxAdapter(Adapter):
    def __init__(self, shape, num_message_bits=0):
        super().__init__(shape, num_message_bits)


class NxToPyAdapter(Adapter):
    def __init__(self, shape, num_message_bits=0):
        super().__init__(shape, num_message_bits)


class PyToN3ConvAdapter(Adapter):
    def __init__(self, shape, num_message_bits=16, spike_exp=0, compression=None):
        super().__init__(shape, num_message_bits, spike_exp=spike_exp, compression=compression.name)


class Passing(PyLoihiProcessModel):
    inp: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        steps = int(os.environ.get("STANDIN_STEPS", "0"))
        self.waiting = [np.zeros(proc_params["shape"], dtype=np.int32)] * steps
        self.bits = proc_params["num_message_bits"]

    def run_spk(self):
        self.waiting.append(self.inp.recv())
        self.out.send(self.waiting.pop(0))


@implements(proc=PyToNxAdapter, protocol=LoihiProtocol)
@requires(CPU)
class PyToNxModel(Passing):
    def run_spk(self):
        message = self.inp.recv()
        self.waiting.append(message if self.bits else (message != 0).astype(np.int32))
        self.out.send(self.waiting.pop(0))


@implements(proc=PyToN3ConvAdapter, protocol=LoihiProtocol)
@requires(CPU)
class PyToN3ConvModel(Passing):
    pass


@implements(proc=NxToPyAdapter, protocol=LoihiProtocol)
@requires(CPU)
class NxToPyModel(Passing):
    def run_spk(self):
        self.waiting.append(self.inp.recv() & ((1 << max(1, self.bits)) - 1))  # the chip sends no sign bits above
        self.out.send(self.waiting.pop(0))
"""


def write(folder: Path, without: str = "") -> Path:
    """Write the stand-in below ``folder``, which then belongs into ``sys.path``; ``without`` is a Process left out."""
    files = dict(_BASES)
    for name, models in _STOCK.items():
        parts = [_MODELS_HEAD]
        for process, model in models.items():
            if process != without:
                module, _, attribute = model.rpartition(".")
                parts.append(_MODEL.format(folder=name, process=process, module=module, model=attribute))
        files[f"lava/proc/{name}/standin_ncmodels.py"] = "".join(parts)
    files["lava/proc/embedded_io/spike.py"] = _ADAPTERS
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder
