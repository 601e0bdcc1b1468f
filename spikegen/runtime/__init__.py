"""The runtime: sampling sessions on a target, and the files they read and write. Needs neither torch nor Lava."""

from spikegen.runtime.backends import BACKENDS as BACKENDS
from spikegen.runtime.backends import open_target as open_target
from spikegen.runtime.counts import CountsRecord as CountsRecord
from spikegen.runtime.counts import read_counts as read_counts
from spikegen.runtime.counts import write_counts as write_counts
from spikegen.runtime.images import grid as grid
from spikegen.runtime.images import write_png as write_png
from spikegen.runtime.lookup import Lookup as Lookup
from spikegen.runtime.lookup import lookup_decoder as lookup_decoder
from spikegen.runtime.readout import host_readout as host_readout
from spikegen.runtime.session import SampleResult as SampleResult
from spikegen.runtime.session import Session as Session
from spikegen.runtime.standalone import StandaloneResult as StandaloneResult
from spikegen.runtime.standalone import evaluate_standalone as evaluate_standalone
from spikegen.runtime.state import SessionState as SessionState
from spikegen.runtime.statistics import NoisePower as NoisePower
from spikegen.runtime.statistics import with_noise_power as with_noise_power
from spikegen.runtime.tokens import DecodeResult as DecodeResult
from spikegen.runtime.tokens import TokenResult as TokenResult
from spikegen.runtime.tokens import decode_tokens as decode_tokens
from spikegen.runtime.tokens import encode_images as encode_images
