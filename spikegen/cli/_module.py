"""A module of the user's own, `my_module:build`, for `spikegen export`."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

from spikegen.cli._arrays import read_inputs
from spikegen.cli._shape import read_shape
from spikegen.errors import ConfigError, LoweringError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from spikegen.lowering.export_module import InputSpec
    from spikegen.program import Pipeline

Command = TypeVar("Command", bound=Callable[..., Any])
# The names of the table in spikegen.lowering.form, whose import `--help` need not wait for.
READOUTS = ("mean", "sum", "last")
OPTIONS = ("input_shape", "timesteps", "streamed", "weights", "calibration", "readout")
_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_RANGE = 1.0


def is_module(source: str) -> bool:
    """Whether ``source`` names a function in a Python module."""
    return _NAME.fullmatch(source) is not None and not Path(source).exists()


def module_options(command: Command) -> Command:
    """What the export of a module has to be told."""
    options = (
        click.option(
            "--input",
            "input_shape",
            metavar="SHAPE",
            help="Of MODULE:FUNCTION: one input, such as 1x28x28 (channels, height, width) or 784 (features).",
        ),
        click.option(
            "-T", "--timesteps", type=click.IntRange(1, 1 << 16), help="Of MODULE:FUNCTION: timesteps of an input."
        ),
        click.option(
            "--streamed/--constant",
            default=None,
            help="Of MODULE:FUNCTION: every timestep has a frame of its own (default for SLAYER), or all the same.",
        ),
        click.option(
            "--weights",
            type=click.Path(path_type=Path),
            help="Of MODULE:FUNCTION: its state_dict, a file of torch.save or .safetensors.",
        ),
        click.option(
            "--calibration",
            type=click.Path(path_type=Path),
            help="Of MODULE:FUNCTION: real inputs to choose scales on, .npy [N, C, H, W], streamed [N, T, C, H, W].",
        ),
        click.option(
            "--readout",
            type=click.Choice(READOUTS),
            default="mean",
            show_default=True,
            help="Of MODULE:FUNCTION: what is read of the values of all timesteps, unless it does so itself.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def export_user_module(
    source: str,
    given: dict[str, Any],
    lowering: dict[str, Any],
    say: Callable[[str], None],
    note: Callable[[str], None],
) -> Pipeline:
    """The pipeline of the module that the function ``source`` builds.

    Args:
        source: ``module:function``.
        given: the values of :data:`OPTIONS`, and ``input_bits`` and ``input_range``, None where not given.
        lowering: arguments of :func:`spikegen.lowering.export_module.export_module` that are no part of the input.
        say: told what is being done.
        note: told what a user must know.

    Raises:
        ConfigError: the function or the files are not what they should be.
        LoweringError: what cannot be lowered.
    """
    try:
        from spikegen.lowering.export_module import RANDOM_INPUTS, InputSpec, export_module
    except ImportError as error:
        raise LoweringError(f"exporting needs PyTorch ({error}); pip install 'spikegen[torch]'") from error
    if given["input_shape"] is None or given["timesteps"] is None:
        raise click.UsageError(f"{source} is code of yours: say what it takes with --input, such as 1x28x28, and -T")
    size, flat = read_shape(given["input_shape"])
    spec: InputSpec = InputSpec(
        size,
        given["timesteps"],
        flat,
        streamed=given["streamed"],
        bits=given["input_bits"],
        largest=_RANGE if given["input_range"] is None else given["input_range"],
    )
    say(f"building {source}")
    module, samples = build(source)
    origin = {"module": source}
    if given["weights"] is not None:
        origin["weights_digest"] = load_weights(module, given["weights"])
    shape = spec.taken(module)
    inputs: npt.NDArray[np.float64] | None = None
    if given["calibration"] is not None:
        inputs = read_inputs(given["calibration"], shape)
    elif samples is not None:
        inputs = _samples(source, samples, shape)
    else:
        note(
            f"No --calibration: scales are chosen on {RANDOM_INPUTS} random inputs; real ones give better scales and "
            "show how near the network is to the float model"
        )
    return export_module(
        module,
        spec,
        source.rpartition(":")[0].rpartition(".")[2],
        inputs=inputs,
        readout=given["readout"],
        provenance=origin,
        on_stage=lambda stage: say(f"exporting {source}: {stage}"),
        **lowering,
    )


def build(source: str) -> tuple[nn.Module, Any]:
    """The module that ``module:function`` returns, and the inputs that it returns with it, or None.

    The current directory is on the path of imports meanwhile, as for ``python -m``.

    Raises:
        ConfigError: there is no such module or function, it raised an error, or returned something else.
    """
    from torch import nn

    from spikegen.lowering.user_code import describe_error

    name, _, function = source.partition(":")
    sys.path.insert(0, "")
    try:
        # Libraries print about CUDA when they are imported; stdout is for results.
        with contextlib.redirect_stdout(sys.stderr):
            module = importlib.import_module(name)
            make = getattr(module, function, None)
            if not callable(make):
                raise ConfigError(f"{source}: the module {name} has no function {function}")
            made = make()
    except ConfigError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(f"{source}: there is no module {name} here or installed") from error
        raise ConfigError(f"{source}: {describe_error(error)}") from error
    except (Exception, SystemExit) as error:  # the code of a user may raise anything
        raise ConfigError(f"{source}: {describe_error(error)}") from error
    finally:
        sys.path.remove("")
    samples = None
    if isinstance(made, tuple) and len(made) == 2:
        made, samples = made
    if not isinstance(made, nn.Module):
        raise ConfigError(
            f"{source}: it returned a {type(made).__name__}; it must return a torch.nn.Module, or a module and inputs"
        )
    return made, samples


def load_weights(module: nn.Module, path: Path) -> str:
    """Load a state_dict into ``module``, all of it; the digest of the file.

    Raises:
        CheckpointError: not such a file.
        ConfigError: it does not fit.
    """
    from spikegen.importing.files import read_state
    from spikegen.lowering.slayer_layers import shape_delays

    state = read_state(path)
    shape_delays(module, state.tensors)
    try:
        module.load_state_dict(dict(state.tensors))
    except RuntimeError as error:
        _, _, reasons = str(error).partition("\n")
        raise ConfigError(f"{path}: it does not fit {type(module).__name__}: {reasons.strip()}") from error
    return state.digest


def _samples(source: str, samples: Any, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    import numpy as np

    try:
        inputs = np.asarray(samples.detach().cpu() if hasattr(samples, "detach") else samples, dtype=np.float64)
        inputs = inputs.reshape(-1, *shape) if inputs.size and inputs[0].size == np.prod(shape) else inputs
    except (TypeError, ValueError, IndexError) as error:
        raise ConfigError(f"{source}: the inputs that it returned are no array of numbers: {error}") from error
    size = ", ".join(map(str, shape))
    if inputs.shape[1:] != shape or not len(inputs) or not np.isfinite(inputs).all():
        raise ConfigError(
            f"{source}: the inputs that it returned are {inputs.shape}, expected finite numbers (N, {size})"
        )
    return inputs
