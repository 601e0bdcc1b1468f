"""The best int8 product of this machine: every way that torch (and ONNX Runtime, where it is installed) offers."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch

# (rows, inner, columns) of a matrix product: square ones that stay in the cache and larger ones, and a long one that is
# a convolution of 128 channels written out.
PRODUCTS = ((4096, 1024, 1024), (2048, 4096, 1024), (8192, 2048, 512), (16384, 1152, 128))
# (batch, channels, pixels per side, kernel) of a convolution that keeps its size.
CONVOLUTIONS = ((64, 128, 32, 3), (64, 256, 16, 3), (16, 512, 16, 3), (64, 256, 32, 1))


def candidates() -> dict[str, tuple[float, Callable[[], object]]]:
    """Name -> multiply-accumulates of one call, and the call. Operands u8 0/1 as spikes, s8 weights of full range."""
    found: dict[str, tuple[float, Callable[[], object]]] = {}
    for rows, inner, columns in PRODUCTS:
        size, macs = f"{rows}x{inner}x{columns}", float(rows * inner * columns)
        x = torch.randint(0, 2, (rows, inner), dtype=torch.uint8)
        w = torch.randint(-127, 128, (columns, inner), dtype=torch.int8)
        found[f"onednn qlinear {size}"] = macs, _onednn_linear(x, w)
        for engine in ("fbgemm", "onednn"):
            found[f"torch quantized linear ({engine}) {size}"] = macs, _quantized_linear(x, w, engine)
        if importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxruntime"):
            found[f"ONNX Runtime MatMulInteger {size}"] = macs, _onnx_product(x, w)
    for batch, channels, side, kernel in CONVOLUTIONS:
        macs = float(batch * channels * channels * side * side * kernel * kernel)
        name = f"onednn qconv2d {kernel}x{kernel}, {channels} channels, {side}x{side}, batch {batch}"
        found[name] = macs, _onednn_conv(batch, channels, side, kernel)
    return found


def _onednn_linear(x: torch.Tensor, w: torch.Tensor) -> Callable[[], object]:
    columns = len(w)
    packed = torch.ops.onednn.qlinear_prepack(w, list(x.shape))
    scales, zeros = torch.ones(columns), torch.zeros(columns, dtype=torch.int64)
    linear: Any = torch.ops.onednn.qlinear_pointwise
    return lambda: linear(x, 1.0, 0, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], "")


def _quantized_linear(x: torch.Tensor, w: torch.Tensor, engine: str) -> Callable[[], object]:
    torch.backends.quantized.engine = engine
    make: Any = torch._make_per_tensor_quantized_tensor  # noqa: SLF001 - the only way without rounding floats
    packed = torch.ops.quantized.linear_prepack(make(w, 1.0, 0), None)
    sent = make(x, 1.0, 0)

    def run() -> object:
        torch.backends.quantized.engine = engine
        return torch.ops.quantized.linear(sent, packed, 1.0, 0)

    return run


def _onednn_conv(batch: int, channels: int, side: int, kernel: int) -> Callable[[], object]:
    shape, pad = (batch, channels, side, side), [kernel // 2] * 2
    x = torch.randint(0, 2, shape, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    w = torch.randint(-127, 128, (channels, channels, kernel, kernel), dtype=torch.int8)
    scales, zeros = torch.ones(channels), torch.zeros(channels, dtype=torch.int64)
    packed = torch.ops.onednn.qconv_prepack(w, scales, 1.0, 0, [1, 1], pad, [1, 1], 1, list(shape))
    geometry = ([1, 1], pad, [1, 1], 1)
    conv: Any = torch.ops.onednn.qconv2d_pointwise
    return lambda: conv(x, 1.0, 0, packed, scales, zeros, None, *geometry, 1.0, 0, torch.float32, "none", [], "")


def _onnx_product(x: torch.Tensor, w: torch.Tensor) -> Callable[[], object]:
    import onnx
    import onnxruntime

    helper, kind = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", kind.UINT8, list(x.shape))],
        [helper.make_tensor_value_info("y", kind.INT32, [len(x), len(w)])],
        [onnx.numpy_helper.from_array(w.T.contiguous().numpy(), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {"x": x.numpy()}
    return lambda: session.run(None, feed)
