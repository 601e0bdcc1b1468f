"""The models of a pipeline as files."""

from __future__ import annotations

import os
from pathlib import Path

from spikegen.errors import ConfigError
from spikegen.exporters.onnx.host import input_model, readout_model
from spikegen.exporters.onnx.network import network_model
from spikegen.program import Pipeline
from spikegen.program.storage import digest
from spikegen.runtime.files import check_output, write_output

SUFFIX = ".onnx"


def model_paths(pipeline: Pipeline, output: str | os.PathLike[str]) -> dict[str, tuple[Path, Path, Path]]:
    """Role -> files of the network, of the host's part before it, and of the host's part behind it.

    For ``output`` ``digits.onnx`` these are ``digits.onnx``, ``digits.input.onnx`` and ``digits.readout.onnx``; where
    the pipeline has several networks, each begins with its role: ``digits.encoder.onnx``, ...

    Raises:
        ConfigError: ``output`` does not end in .onnx.
    """
    output = Path(output)
    if output.suffix != SUFFIX:
        raise ConfigError(f"{output}: the name of an ONNX file ends in {SUFFIX}")
    stem = output.with_suffix("")
    bases = {role: stem if len(pipeline.networks) == 1 else Path(f"{stem}.{role}") for role in pipeline.networks}
    return {
        role: (Path(f"{base}{SUFFIX}"), Path(f"{base}.input{SUFFIX}"), Path(f"{base}.readout{SUFFIX}"))
        for role, base in bases.items()
    }


def write_models(pipeline: Pipeline, output: str | os.PathLike[str], outputs: str = "readouts") -> list[Path]:
    """Write every network of ``pipeline`` and the host's part around it; each file is whole or not there.

    Args:
        pipeline: a valid pipeline.
        output: names the files, see :func:`model_paths`.
        outputs: what the networks give, as in :func:`~spikegen.exporters.onnx.network_model`.

    Returns:
        the files.

    Raises:
        ProgramError: a Program breaks a rule.
        ConfigError: ``output`` does not end in .onnx, or no ONNX model can hold a network; nothing was written.
        OutputError: a file cannot be written.
    """
    files = model_paths(pipeline, output)
    for path in (path for paths in files.values() for path in paths):
        check_output(path)
    contents: dict[Path, bytes] = {}
    for role, paths in files.items():
        program = pipeline.networks[role]
        models = (network_model(program, outputs), input_model(program), readout_model(program))
        for path, model in zip(paths, models, strict=True):
            for key, value in (("pipeline", digest(pipeline)), ("role", role)):
                model.metadata_props.add(key=f"spikegen.{key}", value=value)
            contents[path] = model.SerializeToString(deterministic=True)
    for path, content in contents.items():
        write_output(path, content)
    return list(contents)
