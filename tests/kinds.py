"""An algorithm of every kind that keeps something of its own in the state, and what each reads frozen."""

import jax
import jax.numpy as jnp
import optax
from tiny import batch, linear_like, mlp, with_statistics

from kdjax import teachers
from kdjax.algorithms import Player, first_tokens, play, replayed, supervised, with_data, written
from kdjax.decoding import LanguageModel
from kdjax.models.decoder import DecoderConfig, decoder
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


def followed(x, follower, *, key):
    x = jax.lax.stop_gradient(x)
    return jnp.mean((follower(x + jax.random.normal(key, x.shape)).prediction - x) ** 2, axis=-1)


def leading(x, image, follower, average):
    return jnp.mean((follower(x).prediction - average(image).prediction) * x, axis=-1)


def generator():
    """A network that follows another's outputs, with three moves in a step, and an average that is called."""
    players = {
        'follower': Player(mlp(4), term(followed, 'student', 'follower()'), ADAM, reads=('student',), moves=3),
        'student': Player(mlp(), term(leading, 'student', 'batch.image', 'follower()', 'average()'), ADAM),
    }
    average = teachers.ema(mlp(), decay=0.5)
    return play(players, teachers={'average': average}, turns='in_order')


WORDS = DecoderConfig(3, 4, 1, 1, 4, context=4, tied=False)
WRITER = LanguageModel(decoder(WORDS), WORDS)


def as_text(batch, *, key, train):
    """The dark, the grey and the bright pixels of an image as words; the first two are the prompt of a text."""
    words = jnp.minimum(batch['image'].reshape(-1, 4) * 3, 2).astype(jnp.int32)
    ones = jnp.ones((len(words), 3), jnp.int32)
    place = jnp.broadcast_to(jnp.arange(3, dtype=jnp.int32), ones.shape)
    return {
        'tokens': words[:, :-1], 'label': words[:, 1:], 'where': ones > 0, 'segment': ones, 'position': place,
        'index': batch['index'],
    }  # fmt: skip


def rollouts():
    """Half of the batches are the student's own texts, old ones among them."""
    rollout = replayed(written({'student': WRITER}, first_tokens(2)), capacity=8, fresh=0.5)
    player = Player(WRITER.model, hard_labels(), ADAM, ('batch.tokens', 'batch.segment', 'batch.position'))
    return play({'student': player}, prepare=as_text, rollout=with_data(rollout, share=0.5))


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
    'rollouts': (rollouts, nothing),
    'two players': (two_players, nothing),
    'critic': (critic, nothing),
    'generator': (generator, nothing),
}
