"""Pure train steps."""

from kdjax.algorithms.algorithm import Algorithm as Algorithm
from kdjax.algorithms.players import Player as Player
from kdjax.algorithms.players import play as play
from kdjax.algorithms.players import supervised as supervised
