"""What Loihi 2 and its compiler allow: every limit with its value, unit, source and certainty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from spikegen.program import numerics


class Certainty(Enum):
    """How a figure is known."""

    READ = "read in the source named"
    QUOTED = "quoted by another publication"
    DERIVED = "worked out from the source named, not stated there"
    REPORTED = "reported by users, cause unknown"
    SHOWN = "the most that is known to have run, the limit itself is not published"


@dataclass(frozen=True)
class Limit:
    """One limit.

    Attributes:
        name: key in :data:`LIMITS`.
        value: greatest (for ``*_min`` least) allowed value.
        unit: of the value.
        source: where it can be looked up.
        certainty: how it is known.
    """

    name: str
    value: int
    unit: str
    source: str
    certainty: Certainty


CONSTANTS = "lava-nc 0.10.0, lava/magma/compiler/subcompilers/constants.py"
LOGS = "compiler logs in the notebooks of lava-dl (commit d825ac5), tutorials/lava/lib/dl/netx, solved for the limit"
LIF = "lava-nc 0.10.0, lava/proc/lif/models.py (bit-accurate models)"
WEIGHTS = "lava-nc 0.10.0, lava/utils/weightutils.py"
YOLO = (
    "lava-dl (commit d825ac5), tutorials/lava/lib/dl/netx/yolo_kp: 448x448x3 values in and 14x14x48 out on 16 chips, "
    "the log of run_eth.ipynb"
)

LIMITS: Mapping[str, Limit] = MappingProxyType(
    {
        limit.name: limit
        for limit in (
            Limit("cores_per_chip", 120, "cores", f"{CONSTANTS}: NUM_VIRTUAL_CORES_L3 (of 128)", Certainty.READ),
            Limit("neurons", 4095, "neurons per core", f"{LOGS}: 3584 neurons are 87.52 %", Certainty.DERIVED),
            Limit(
                "synapse_words",
                16000,
                "64-bit words per core",
                f"{LOGS}: 16 words of 784 axons are 78.4 %; compilers of 2022 had 12000, printed as such",
                Certainty.DERIVED,
            ),
            Limit("axon_in", 16000, "entries per core", f"{LOGS}: 784 axons are 4.9 %", Certainty.DERIVED),
            Limit("axon_map", 16000, "entries per core", f"{LOGS}: 2688 entries are 16.8 %", Certainty.DERIVED),
            Limit("axon_mem", 16000, "entries per core", f"{LOGS}: 448 entries are 2.8 %", Certainty.DERIVED),
            Limit(
                "memory",
                100,
                "% of a core: 0.8 (synapse words + axon tables) + 0.2047 neurons, each in % of its own limit",
                f"{LOGS}: column Total, equal to 0.006 points in 13 rows",
                Certainty.DERIVED,
            ),
            Limit("weight_min", -256, "mixed signs, in steps of 2", f"{WEIGHTS}: truncate_weights", Certainty.READ),
            Limit("weight_max", 254, "mixed signs, in steps of 2", f"{WEIGHTS}: truncate_weights", Certainty.READ),
            Limit("weight_positive_max", 255, "weights of one sign", f"{WEIGHTS}: SignMode.EXCITATORY", Certainty.READ),
            Limit(
                "weight_exp",
                7,
                "exponent of a projection, -7..7",
                "nengo-loihi (commit e564f66), nengo_loihi/builder/discretize.py, for Loihi 1; Loihi 2: unpublished",
                Certainty.READ,
            ),
            Limit("vth", numerics.VTH_MAX, "threshold mantissa (17 bit)", LIF, Certainty.READ),
            Limit("decay", numerics.DECAY_MAX, "du and dv (12 bit)", LIF, Certainty.READ),
            Limit("bias_min", numerics.BIAS_MANT_MIN, "bias mantissa (signed 13 bit)", LIF, Certainty.READ),
            Limit("bias_max", numerics.BIAS_MANT_MAX, "bias mantissa (signed 13 bit)", LIF, Certainty.READ),
            Limit("bias_exp", numerics.BIAS_EXP_MAX, "bias exponent (3 bit)", LIF, Certainty.READ),
            Limit(
                "payload_bits",
                numerics.GRADED_BITS_MAX,
                "magnitude bits of a graded message (24 bit with sign)",
                LIF,
                Certainty.READ,
            ),
            Limit(
                "delay",
                62,
                "timesteps",
                "lava-dl (commit d825ac5), lava/lib/dl/netx/hdf5.py and netx/blocks/process.py (max_delay=62)",
                Certainty.READ,
            ),
            Limit(
                "conv_input",
                57,
                "pixels of a side, at the input of a convolution",
                "lava issue 826: 57x57x2 ran, 58x58x2 hung without a message; larger ones run in lava-dl's notebooks",
                Certainty.REPORTED,
            ),
            Limit("inputs", 448 * 448 * 3, "values from the host per timestep", YOLO, Certainty.SHOWN),
            Limit("outputs", 14 * 14 * 48, "values to the host per timestep", YOLO, Certainty.SHOWN),
        )
    }
)

# What a core holds: keys of what a placement uses and of LIMITS.
CORE_RESOURCES = ("neurons", "synapse_words", "axon_in", "axon_map", "axon_mem", "memory")
LARGE_POOL, SMALL_POOL = 0.8, 0.2047  # weights of the limit "memory"; LARGE: words and axon tables, SMALL: neurons


@dataclass(frozen=True)
class Budget:
    """What one core and one chip hold. The default is Loihi 2 with the compiler of the newer logs.

    Attributes:
        neurons, synapse_words, axon_in, axon_map, axon_mem, memory: per core, see :data:`LIMITS`.
        cores_per_chip: cores that the compiler uses.
    """

    neurons: int = LIMITS["neurons"].value
    synapse_words: int = LIMITS["synapse_words"].value
    axon_in: int = LIMITS["axon_in"].value
    axon_map: int = LIMITS["axon_map"].value
    axon_mem: int = LIMITS["axon_mem"].value
    memory: int = LIMITS["memory"].value
    cores_per_chip: int = LIMITS["cores_per_chip"].value

    def shares(self, used: Mapping[str, float]) -> dict[str, float]:
        """Used fraction of each resource of a core, from the amounts used (without ``memory``, which follows)."""
        shares = {name: amount / getattr(self, name) for name, amount in used.items()}
        large = sum(share for name, share in shares.items() if name != "neurons")
        pooled = LARGE_POOL * large + SMALL_POOL * shares["neurons"]
        return {**shares, "memory": pooled * 100 / self.memory}
