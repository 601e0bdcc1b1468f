"""Is the Program exact on every target, and how far is it from the float model? What `spikegen verify` runs."""

from spikegen.verification.compare import NodeDifference as NodeDifference
from spikegen.verification.compare import differences as differences
from spikegen.verification.fidelity import Fidelity as Fidelity
from spikegen.verification.fidelity import fidelity as fidelity
from spikegen.verification.slayer import SlayerTarget as SlayerTarget
