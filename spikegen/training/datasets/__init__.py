"""Image data sets by name."""

from spikegen.training.datasets.imageset import Images as Images
from spikegen.training.datasets.imageset import ImageSet as ImageSet
from spikegen.training.datasets.imageset import split as split
from spikegen.training.datasets.named import FORMS as FORMS
from spikegen.training.datasets.named import data_root as data_root
from spikegen.training.datasets.named import load_fitting as load_fitting
from spikegen.training.datasets.named import load_images as load_images
