"""Training: recipes, data sets and the loop."""

from spikegen.training.datasets import ImageSet as ImageSet
from spikegen.training.datasets import load_images as load_images
from spikegen.training.fine_tuning import fine_tuning as fine_tuning
from spikegen.training.recipes import RECIPES as RECIPES
from spikegen.training.recipes import Recipe as Recipe
from spikegen.training.recipes import on_dataset as on_dataset
from spikegen.training.trainer import Progress as Progress
from spikegen.training.trainer import Trainer as Trainer
from spikegen.training.trainer import untrained as untrained
from spikegen.training.tuning import Tuner as Tuner
from spikegen.training.tuning import Tuning as Tuning
