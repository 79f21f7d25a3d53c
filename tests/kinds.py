"""An algorithm of every kind that keeps something of its own in the state, and what each reads frozen."""

import jax
import jax.numpy as jnp
import optax
from tiny import batch, linear_like, mlp, with_statistics

from kdjax import teachers
from kdjax.algorithms import Player, play, supervised
from kdjax.models.model import from_functions
from kdjax.objectives import hard_labels, hint, kl, term

ADAM = optax.adam(0.05)
LIVE = {'teacher': teachers.live(mlp(16))}


def cached_table():
    return {'teacher': jax.random.normal(jax.random.key(1), (24, 3))}


def live_weights():
    return {'teacher': mlp(16).init(jax.random.key(1), batch()['image'])}


def nothing():
    return {}


def rising(step):
    """A weight that grows with the steps."""
    return jnp.minimum(1.0, step / 10)


def critic_model():
    return from_functions(
        lambda key, x: {'w': jax.random.normal(key, (x.shape[-1], 1))}, lambda p, x: x @ p['w'], name='critic'
    )


def fooled(score):
    return jax.nn.softplus(-score)[:, 0]


def caught(score):
    return jax.nn.softplus(score)[:, 0]


def logit():
    decayed = optax.adam(optax.cosine_decay_schedule(0.05, 30))
    return supervised(mlp(), hard_labels() + rising * kl(), decayed, teachers=LIVE)


def projector():
    hinted = hint('student.hidden', 'teacher.hidden', projector=linear_like)
    return supervised(mlp(), hinted, ADAM, teachers=LIVE)


def averaged():
    return supervised(mlp(), hard_labels() + kl(), ADAM, teachers={'teacher': teachers.ema(mlp(), decay=0.5)})


def bank():
    past = teachers.past_self(examples=24, classes=3)
    return supervised(mlp(), hard_labels() + kl(), ADAM, teachers={'teacher': past})


def two_players():
    return play(
        {
            'student': Player(mlp(), hard_labels() + kl('student', 'peer'), ADAM),
            'peer': Player(mlp(4), hard_labels('peer') + kl('peer', 'student'), optax.sgd(0.1)),
        }
    )


def critic():
    return play(
        {
            'student': Player(mlp(), hard_labels() + term(fooled, 'judge'), ADAM),
            'judge': Player(critic_model(), term(caught, 'judge'), optax.sgd(0.1), reads=('student',)),
        }
    )


KINDS = {
    'logit': (logit, live_weights),
    'statistics': (lambda: supervised(with_statistics(mlp()), hard_labels(), ADAM), nothing),
    'cached teacher': (
        lambda: supervised(mlp(), hard_labels() + kl(), ADAM, teachers={'teacher': teachers.cached()}),
        cached_table,
    ),
    'projector': (projector, live_weights),
    'average of the student': (averaged, nothing),
    'bank of past predictions': (bank, nothing),
    'two players': (two_players, nothing),
    'critic': (critic, nothing),
}
