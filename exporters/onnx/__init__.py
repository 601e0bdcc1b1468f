"""Programs as plain ONNX models, ONNX Runtime as a target, and model files to compare. Needs the extra ``onnx``."""

from spikegen import errors as _errors

try:
    import onnx as _onnx  # noqa: F401
    import onnxruntime as _onnxruntime  # noqa: F401
except ImportError as error:
    raise _errors.BackendError(
        f"ONNX needs the packages onnx and onnxruntime ({error}); pip install 'spikegen[onnx]'"
    ) from error

from spikegen.exporters.onnx.files import write_models as write_models
from spikegen.exporters.onnx.host import input_model as input_model
from spikegen.exporters.onnx.host import readout_model as readout_model
from spikegen.exporters.onnx.model_file import ModelFile as ModelFile
from spikegen.exporters.onnx.model_file import open_model as open_model
from spikegen.exporters.onnx.network import OUTPUTS as OUTPUTS
from spikegen.exporters.onnx.network import network_model as network_model
from spikegen.exporters.onnx.target import OnnxTarget as OnnxTarget
