"""The Lava target: a Program as Lava processes, in a supervised worker process. Importing this needs no Lava."""

from spikegen.exporters.lava.target import LavaTarget as LavaTarget
