"""Is Loihi 2 at hand: Intel's package, and the environment that leads to a board. No Lava here, and no side effects."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping

from spikegen.errors import BackendError
from spikegen.hardware.inrc.partitions import GENERATION, GENERATIONS, HOST_BINARY, NODES, PARTITIONS
from spikegen.hardware.loihi2 import BOARDS, Board
from spikegen.requirements import how_to_get_lava

# Looked for, not imported; lava-nc 0.10.0, lava/utils/loihi.py is_installed. lava.utils.system would set variables.
PROBE = "lava.utils.loihi2_profiler"
VARIABLES = ("SLURM", "NOSLURM", "LOIHI_GEN", "PARTITION", "BOARD", "NXSDKHOST", "HOST_BINARY")


def require_loihi2(environ: Mapping[str, str]) -> dict[str, str]:
    """What a process needs in its environment beside ``environ`` to run on Loihi 2.

    Defaults are those of Lava (``lava/utils/system.py`` and ``loihi.py``): ``SLURM=1`` where neither SLURM nor NOSLURM
    is set, ``LOIHI_GEN=N3B3`` but where another is known of PARTITION, and the ``HOST_BINARY`` of a host without Slurm.

    Raises:
        BackendError: everything that is missing, how it was looked for, and where one gets it.
    """
    problems = [*_missing_packages(), *_wrong_variables(environ)]
    if problems:
        found = ", ".join(f"{name}={environ[name]}" for name in VARIABLES if name in environ) or "none of them"
        lines = [
            "the backend loihi2 cannot run here:",
            *problems,
            f"of {', '.join(VARIABLES)}, the environment has {found}",
            "the backend loihi2-sim runs the same network here, with CPU models in place of the chip",
        ]
        raise BackendError("\n  - ".join(lines))
    partition = PARTITIONS.get(environ.get("PARTITION", ""))
    defaults = {"LOIHI_GEN": GENERATION if partition is None else partition.generation}
    if "NOSLURM" in environ:
        defaults["HOST_BINARY"] = HOST_BINARY
    elif "SLURM" not in environ:
        defaults["SLURM"] = "1"
    return {name: value for name, value in defaults.items() if name not in environ}


def board_of(environ: Mapping[str, str]) -> Board:
    """The board behind PARTITION or BOARD of ``environ``; if that is not known the largest there is."""
    partition, node = PARTITIONS.get(environ.get("PARTITION", "")), environ.get("BOARD", "")
    by_node = next((board for start, board in NODES.items() if node.startswith(start)), None)
    name = by_node if partition is None else partition.board
    return BOARDS[name] if name else max(BOARDS.values(), key=lambda board: board.chips)


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even what it is a part of
        return False


def _missing_packages() -> list[str]:
    if not _found("lava.magma"):
        return [f"lava-nc 0.10.0 is not installed (there is no module lava.magma): {how_to_get_lava('lava')}"]
    if not _found(PROBE):
        text = (
            f"lava-loihi is not installed (there is no module {PROBE}). It is Intel's and not public: members of the "
            "Intel Neuromorphic Research Community (INRC, inrc_interest@intel.com) get it there for hosts of the "
            "community, below /nfs/ncl/releases/lava. There the environment leads to a board: PARTITION or BOARD with "
            "SLURM=1, or NXSDKHOST with NOSLURM=1, and LOIHI_GEN"
        )
        return [text]
    return []


def _wrong_variables(environ: Mapping[str, str]) -> list[str]:
    problems = []
    if "SLURM" in environ and "NOSLURM" in environ:
        problems.append("SLURM and NOSLURM are both set: unset SLURM to use the host NXSDKHOST, else NOSLURM")
    elif "NOSLURM" in environ:
        if "NXSDKHOST" not in environ:
            problems.append("NOSLURM is set, but not NXSDKHOST, the address of the host of the board")
    elif shutil.which("sinfo", path=environ.get("PATH")) is None:
        problems.append(
            "Slurm, which lends the boards of the INRC, is not installed (no sinfo in PATH; there it is in "
            "/nfs/ncl/bin). For a board of your own set NOSLURM=1 and NXSDKHOST, its address"
        )
    generation = environ.get("LOIHI_GEN", GENERATION)
    if generation not in GENERATIONS:
        problems.append(f"LOIHI_GEN is {generation}; it is the stepping of the chip, one of {', '.join(GENERATIONS)}")
    return problems
