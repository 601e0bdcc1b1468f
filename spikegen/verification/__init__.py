"""Is the Program exact on every target, and how far is it from the float model? What `spikegen verify` runs."""

from spikegen.verification.compare import NodeDifference as NodeDifference
from spikegen.verification.compare import differences as differences
from spikegen.verification.fidelity import Fidelity as Fidelity
from spikegen.verification.fidelity import fidelity as fidelity
from spikegen.verification.generator import generator_differences as generator_differences
from spikegen.verification.network import NetworkResult as NetworkResult
from spikegen.verification.network import NodeResult as NodeResult
from spikegen.verification.network import StepResult as StepResult
from spikegen.verification.network import verify_network as verify_network
from spikegen.verification.slayer import SlayerTarget as SlayerTarget
