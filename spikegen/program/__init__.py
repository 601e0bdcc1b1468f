"""The Program, which every target runs, and the pipeline of Programs, which one file deploys."""

from spikegen.program.bounds import current_bounds as current_bounds
from spikegen.program.bounds import overflow_risks as overflow_risks
from spikegen.program.counting import Counts as Counts
from spikegen.program.ir import Conditioning as Conditioning
from spikegen.program.ir import Conv as Conv
from spikegen.program.ir import Dense as Dense
from spikegen.program.ir import Input as Input
from spikegen.program.ir import Lif as Lif
from spikegen.program.ir import Node as Node
from spikegen.program.ir import Population as Population
from spikegen.program.ir import Program as Program
from spikegen.program.ir import Projection as Projection
from spikegen.program.ir import Readout as Readout
from spikegen.program.ir import Relay as Relay
from spikegen.program.pipeline import HostPart as HostPart
from spikegen.program.pipeline import ImageDiffusion as ImageDiffusion
from spikegen.program.pipeline import Pipeline as Pipeline
from spikegen.program.pipeline import Standalone as Standalone
from spikegen.program.pipeline import TokenDiffusion as TokenDiffusion
from spikegen.program.storage import digest as digest
from spikegen.program.storage import load as load
from spikegen.program.storage import save as save
from spikegen.program.target import Evaluation as Evaluation
from spikegen.program.target import Target as Target
from spikegen.program.validate import validate as validate
from spikegen.program.validate_pipeline import validate_pipeline as validate_pipeline
