"""Spiking-Diffusion at the sizes of the paper, with random weights: exported, and equal on every target.

`benchmarks/paper_size.py` does the same with more inputs and also runs the denoiser on Lava, which takes minutes.
"""

import numpy as np
import pytest

from spikegen.exporters.lava import LavaTarget
from spikegen.lowering import export_checkpoint
from spikegen.lowering.parts import Part, network_parts
from spikegen.models import load_checkpoint, save_checkpoint
from spikegen.models.spiking_diffusion import PAPER
from spikegen.program import Lif, Pipeline, overflow_risks
from spikegen.program.ir import neurons
from spikegen.training import Recipe, untrained
from spikegen.training.recipes import Stage
from spikegen.verification import SlayerTarget, generator_differences, verify_network

NEURONS = {"encoder": 10_192, "denoiser": 59_584, "decoder": 38_416}
POPULATIONS = {"encoder": 3, "denoiser": 5, "decoder": 3}
# The mask level is that of the denoiser's input; the networks themselves have one conditioning step.
MASK_LEVEL = 25


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, dict[str, Part]]:
    """The pipeline and one input of each network."""
    folder = tmp_path_factory.mktemp("paper")
    stages = (Stage("autoencoder", batch_size=4), Stage("denoiser", batch_size=4))
    save_checkpoint(folder, untrained(Recipe(PAPER, stages, dataset="digits@28", beta_schedule="absorbing"), batches=2))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("spikegen.lowering.export.CALIBRATION_IMAGES", 1)  # per diffusion step; sizes are the subject
        pipeline = export_checkpoint(folder)
    return pipeline, network_parts(load_checkpoint(folder), [MASK_LEVEL], 1, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("role", NEURONS)
def test_every_network_fires_the_same_in_the_simulator_and_in_slayer(
    deployed: tuple[Pipeline, dict[str, Part]], role: str
) -> None:
    pipeline, parts = deployed
    program = pipeline.network(role)
    firing = {node.name: neurons(node) for node in program.nodes.values() if isinstance(node, Lif)}
    assert (program.timesteps, len(firing), sum(firing.values())) == (16, POPULATIONS[role], NEURONS[role])
    assert overflow_risks(program) == []
    data = parts[role].data
    result = verify_network(program, {"SLAYER": SlayerTarget(program)}, data.images, data.steps)
    assert result.equal
    assert all(0 < row.events < row.messages for row in result.nodes if row.node in firing)


@pytest.mark.slow
def test_the_generator_of_the_paper_and_its_table_send_the_same(deployed: tuple[Pipeline, dict[str, Part]]) -> None:
    tokens = np.random.default_rng(0).integers(PAPER.codes, size=(2, PAPER.grid, PAPER.grid))
    messages, differing = generator_differences(deployed[0], tokens)
    assert messages > 2 * PAPER.timesteps * NEURONS["decoder"]
    assert differing == 0


@pytest.mark.slow
@pytest.mark.lava
def test_one_decode_on_lava_is_the_simulator_s(deployed: tuple[Pipeline, dict[str, Part]]) -> None:
    pipeline, parts = deployed
    program, data = pipeline.network("decoder"), parts["decoder"].data
    with LavaTarget(program, images=1, model="unrolled", synapses="conv") as target:
        assert verify_network(program, {"Lava": target}, data.images, data.steps).equal
