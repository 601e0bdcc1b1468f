"""Process models for processes of Lava, chosen by the run configuration in place of Lava's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.conv import utils
from lava.proc.conv.models import PyConvModelFixed
from lava.proc.conv.process import Conv
from lava.proc.lif.models import PyLifResetModelBitAcc
from lava.proc.lif.process import LIFReset

_FORMATS = {np.float32: 1 << 24, np.float64: 1 << 53}  # integers of smaller magnitude are exact, sums of them too


@implements(proc=LIFReset, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class HostBiasLif(PyLifResetModelBitAcc):  # type: ignore[misc]
    """Lava's model of ``LIFReset``, whose bias mantissas come from the host at the start of a run.

    ``proc_params`` hold ``biases`` int16 [C], shared with the host, and ``period``, the steps of a run. Writing the Var
    ``bias_mant`` from the host would take 24 microseconds for every neuron.
    """

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._biases: npt.NDArray[np.int16] = proc_params["biases"]
        self._period: int = proc_params["period"]

    def run_spk(self) -> None:
        """Take the biases if a run starts, then step as Lava does."""
        if (self.time_step - 1) % self._period == 0:
            self.bias_mant[:] = self._biases  # the last axis of (W, H, C) is the channel
        super().run_spk()


@implements(proc=Conv, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class FastConv(PyConvModelFixed):  # type: ignore[misc]
    """Lava's ``Conv`` as one matrix product per group instead of one ``scipy`` call per pair of channels.

    Every partial sum of a product is an integer below the largest message times the largest sum of weight magnitudes of
    an output channel; below 2^24 float32 holds it exactly, below 2^53 float64, whatever the order of the additions.
    Beyond (no Program comes near) Lava's own code computes the step.

    Unlike Lava's model it obeys ``weight_exp`` (0 in the unrolled network), as ``PyDenseModelBitAcc`` does: the current
    is shifted, to the right where the exponent is negative.
    """

    a_buf: Any  # declared by PyConvModelFixed

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._reach = 0
        self._products: dict[Any, _Product] = {}

    def run_spk(self) -> None:
        """Send the currents of the last step, then compute those of this one, as ``AbstractPyConvModel`` does."""
        self.a_out.send(self.a_buf)
        message = self.s_in.recv()
        if self.num_message_bits.item() == 0:
            message = message != 0
        current, exponent = self._convolved(message), int(self.weight_exp.item())
        self.a_buf = self.clamp_precision(current << exponent if exponent > 0 else current >> -exponent)

    def _convolved(self, message: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        """Currents int32 [W', H', out] of a message [W, H, in]."""
        self._reach = self._reach or max(1, int(np.abs(self.weight.astype(np.int64)).sum(axis=(1, 2, 3)).max()))
        largest = max(abs(int(message.max())), abs(int(message.min())))
        if largest == 0:
            return np.zeros_like(self.a_buf)
        for dtype, limit in _FORMATS.items():
            if largest * self._reach < limit:
                if dtype not in self._products:
                    self._products[dtype] = _Product(self, dtype)
                return self._products[dtype](message).astype(np.int32)
        geometry = (self.kernel_size, self.stride, self.padding, self.dilation, self.groups[0])
        currents: npt.NDArray[np.int32] = utils.conv(message, self.weight, *geometry)
        return currents


class _Product:
    """A convolution of one floating point format, with the buffers that it fills again at every step."""

    def __init__(self, model: FastConv, dtype: Any) -> None:
        width, height, channels = model.s_in.shape
        (pad_x, pad_y), groups = (int(pad) for pad in model.padding), int(model.groups[0])
        padded = np.zeros((width + 2 * pad_x, height + 2 * pad_y, channels), dtype=dtype)
        self._inner = padded[pad_x : pad_x + width, pad_y : pad_y + height]
        self._shape = tuple(model.a_buf.shape)
        out, kernel_x, kernel_y, inputs = model.weight.shape
        stride, dilation = np.array(model.stride, dtype=np.int64), np.array(model.dilation, dtype=np.int64)
        step_x, step_y, step_channel = padded.strides
        windows = np.lib.stride_tricks.as_strided(
            padded,
            (*self._shape[:2], kernel_x, kernel_y, channels),
            (step_x * stride[0], step_y * stride[1], step_x * dilation[0], step_y * dilation[1], step_channel),
            writeable=False,
        )
        self._windows = np.split(windows, groups, axis=-1)
        # A true convolution: both axes of the kernel are flipped.
        kernels = model.weight[:, ::-1, ::-1].astype(dtype).reshape(groups, out // groups, -1)
        self._kernels = [np.ascontiguousarray(kernel.T) for kernel in kernels]
        self._columns = (self._shape[0] * self._shape[1], kernel_x * kernel_y * inputs)

    def __call__(self, message: npt.NDArray[Any]) -> npt.NDArray[Any]:
        self._inner[...] = message
        parts = [
            windows.reshape(self._columns) @ kernel
            for windows, kernel in zip(self._windows, self._kernels, strict=True)
        ]
        currents: npt.NDArray[Any] = np.concatenate(parts, axis=1).reshape(self._shape)
        return currents
