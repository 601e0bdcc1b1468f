"""spikegen: spiking generative models from PyTorch to the Lava simulator and Loihi 2."""

__version__ = "0.1.0"
