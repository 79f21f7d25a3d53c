"""Networks behind the Model contract: pure functions that return a prediction and named taps."""

from kdjax.models.model import Model as Model
from kdjax.models.model import Outputs as Outputs
from kdjax.models.model import Variables as Variables
from kdjax.models.model import from_functions as from_functions
from kdjax.models.named import named as named
from kdjax.models.seam import from_linen as from_linen
from kdjax.models.seam import from_nnx as from_nnx
