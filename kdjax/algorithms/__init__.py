"""Pure train steps."""

from kdjax.algorithms.algorithm import Algorithm as Algorithm
from kdjax.algorithms.on_policy import sequence_kl_reverse as sequence_kl_reverse
from kdjax.algorithms.players import Player as Player
from kdjax.algorithms.players import play as play
from kdjax.algorithms.players import supervised as supervised
from kdjax.algorithms.rollouts import Rollout as Rollout
from kdjax.algorithms.rollouts import replayed as replayed
from kdjax.algorithms.rollouts import with_data as with_data
from kdjax.algorithms.writing import before_response as before_response
from kdjax.algorithms.writing import first_tokens as first_tokens
from kdjax.algorithms.writing import written as written
