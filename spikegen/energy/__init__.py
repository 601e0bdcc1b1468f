"""Exact operation counts, and joules under named, sourced models."""

from spikegen.energy.formula import Driven as Driven
from spikegen.energy.formula import FormulaEnergy as FormulaEnergy
from spikegen.energy.formula import FormulaLayer as FormulaLayer
from spikegen.energy.formula import formula_ann_energy as formula_ann_energy
from spikegen.energy.formula import formula_energy as formula_energy
from spikegen.energy.formula import implied_rate as implied_rate
from spikegen.energy.formula import program_layers as program_layers
from spikegen.energy.generator import GeneratorCost as GeneratorCost
from spikegen.energy.generator import generator_cost as generator_cost
from spikegen.energy.models import MODELS as MODELS
from spikegen.energy.models import Energy as Energy
from spikegen.energy.models import EnergyModel as EnergyModel
from spikegen.energy.models import Price as Price
from spikegen.energy.operations import OPERATIONS as OPERATIONS
from spikegen.energy.operations import Operations as Operations
from spikegen.energy.operations import count_operations as count_operations
from spikegen.energy.report import PipelineReport as PipelineReport
from spikegen.energy.report import Report as Report
from spikegen.energy.report import build_pipeline_report as build_pipeline_report
from spikegen.energy.report import build_report as build_report
