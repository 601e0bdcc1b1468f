"""One sample through the command line: what it costs, and that an interrupted run ends with the same picture."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from command import spikegen

POLL = 0.02  # seconds between two looks at the state


def sampled(file: Path, images: int, steps: int, seed: int) -> dict[str, Any]:
    """DDIM on the simulator: seconds and peak memory of a whole run, then one that is interrupted half-way."""
    folder = file.parent
    options = ("-n", images, "--steps", steps, "--solver", "ddim", "--backend", "simulator", "--seed", seed)
    whole, parts, state = folder / "whole.png", folder / "parts.png", folder / "state.npz"
    text, cost = spikegen("sample", file, "-o", whole, *options, "--json")
    summary = json.loads(text)
    stopped = _interrupted(("sample", file, "-o", parts, *options, "--state", state), state, steps // 2)
    left = not parts.exists() and state.exists()
    text, again = spikegen("sample", file, "-o", parts, *options, "--state", state, "--json")
    return {
        "images": images,
        "steps": steps,
        **cost,
        "seconds_per_evaluation": summary["seconds_per_evaluation"],
        "interrupted_after": stopped,
        "state_left": left,
        "resumed_seconds": again["seconds"],
        "equal": whole.read_bytes() == parts.read_bytes(),
        "state_removed": not state.exists(),
    }


def _interrupted(arguments: tuple[object, ...], state: Path, after: int) -> int:
    """Start a run and send it SIGINT once ``after`` steps are saved; the number of steps it has saved at its end."""
    command = [sys.executable, "-m", "spikegen", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603
    while process.poll() is None and _completed(state) < after:
        time.sleep(POLL)
    process.send_signal(signal.SIGINT)
    process.wait()
    return _completed(state)


def _completed(state: Path) -> int:
    """Steps that a state file holds; 0 if there is none yet."""
    if not state.exists():
        return 0
    with zipfile.ZipFile(state) as archive, archive.open("document.npy") as document:
        text = np.lib.format.read_array(document, allow_pickle=False).tobytes()
    completed: int = json.loads(text)["completed"]
    return completed
