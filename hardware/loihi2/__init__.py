"""Loihi 2: limits with their sources, boards, the mapping onto cores, design rules."""

from spikegen.hardware.loihi2.boards import BOARDS as BOARDS
from spikegen.hardware.loihi2.boards import Board as Board
from spikegen.hardware.loihi2.boards import find_board as find_board
from spikegen.hardware.loihi2.boards import smallest_board as smallest_board
from spikegen.hardware.loihi2.check import Check as Check
from spikegen.hardware.loihi2.check import NetworkCheck as NetworkCheck
from spikegen.hardware.loihi2.check import check_pipeline as check_pipeline
from spikegen.hardware.loihi2.check import check_program as check_program
from spikegen.hardware.loihi2.layout import Layout as Layout
from spikegen.hardware.loihi2.layout import place as place
from spikegen.hardware.loihi2.limits import LIMITS as LIMITS
from spikegen.hardware.loihi2.limits import Budget as Budget
from spikegen.hardware.loihi2.limits import Certainty as Certainty
from spikegen.hardware.loihi2.limits import Limit as Limit
from spikegen.hardware.loihi2.network import Role as Role
from spikegen.hardware.loihi2.placement import Placement as Placement
from spikegen.hardware.loihi2.proposals import Proposal as Proposal
from spikegen.hardware.loihi2.proposals import propose as propose
from spikegen.hardware.loihi2.rules import RULES as RULES
from spikegen.hardware.loihi2.rules import Violation as Violation
