"""Spiking networks on SLAYER neurons, and their checkpoints."""

from spikegen.models.checkpoint import SHIPPED as SHIPPED
from spikegen.models.checkpoint import Checkpoint as Checkpoint
from spikegen.models.checkpoint import Model as Model
from spikegen.models.checkpoint import build_model as build_model
from spikegen.models.checkpoint import load_checkpoint as load_checkpoint
from spikegen.models.checkpoint import save_checkpoint as save_checkpoint
from spikegen.models.denoiser import ImageDenoiser as ImageDenoiser
from spikegen.models.fsddim import FSDDIM as FSDDIM
from spikegen.models.fsddim import FSDDIMConfig as FSDDIMConfig
from spikegen.models.hard_reset import HardResetNeuron as HardResetNeuron
from spikegen.models.neuron import SpikingNeuron as SpikingNeuron
from spikegen.models.spiking_diffusion import SpikingDiffusion as SpikingDiffusion
from spikegen.models.spiking_diffusion import SpikingDiffusionConfig as SpikingDiffusionConfig
from spikegen.models.unet import SpikingUNet as SpikingUNet
from spikegen.models.unet import UNetConfig as UNetConfig
