"""Jobs for the INRC: a folder that holds everything, shards in Slurm's queue, and one result in the end."""

from spikegen.hardware.inrc.job import Job as Job
from spikegen.hardware.inrc.job import open_job as open_job
from spikegen.hardware.inrc.job import write_job as write_job
from spikegen.hardware.inrc.manifest import Manifest as Manifest
from spikegen.hardware.inrc.manifest import Place as Place
from spikegen.hardware.inrc.manifest import Sampling as Sampling
from spikegen.hardware.inrc.merge import merge_results as merge_results
from spikegen.hardware.inrc.partitions import PARTITIONS as PARTITIONS
from spikegen.hardware.inrc.partitions import Partition as Partition
from spikegen.hardware.inrc.partitions import find_generation as find_generation
from spikegen.hardware.inrc.partitions import find_limits as find_limits
from spikegen.hardware.inrc.queueing import ShardStatus as ShardStatus
from spikegen.hardware.inrc.queueing import Stage as Stage
from spikegen.hardware.inrc.queueing import submit_job as submit_job
from spikegen.hardware.inrc.queueing import survey as survey
from spikegen.hardware.inrc.record import Submission as Submission
from spikegen.hardware.inrc.results import ShardResult as ShardResult
from spikegen.hardware.inrc.shards import run_job as run_job
