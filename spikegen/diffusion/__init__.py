"""Noise schedules and solvers in numpy, with the names that diffusers gave their methods."""

from spikegen.diffusion.absorbing import Absorbing as Absorbing
from spikegen.diffusion.analytic import Analytic as Analytic
from spikegen.diffusion.ddim import DDIM as DDIM
from spikegen.diffusion.ddpm import DDPM as DDPM
from spikegen.diffusion.dpm_solver import DPMSolver as DPMSolver
from spikegen.diffusion.epsilon import SolverStep as SolverStep
from spikegen.diffusion.external import ExternalSolver as ExternalSolver
from spikegen.diffusion.schedule import SCHEDULES as SCHEDULES
from spikegen.diffusion.schedule import alphas_cumprod as alphas_cumprod
from spikegen.diffusion.schedule import betas as betas
from spikegen.diffusion.solver import NoiseSource as NoiseSource
from spikegen.diffusion.solver import Sample as Sample
from spikegen.diffusion.solver import Solver as Solver
from spikegen.diffusion.solvers import SOLVERS as SOLVERS
from spikegen.diffusion.solvers import as_solver as as_solver
from spikegen.diffusion.solvers import default_solver as default_solver
from spikegen.diffusion.solvers import make_solver as make_solver
