"""Every way to match a set, as a term of `play`: a step traces, keeps the state as it is, and logs scalars."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from kdjax import losses
from kdjax.algorithms import Player, play
from kdjax.algorithms.condensation import experts, matching, networks, sets
from kdjax.algorithms.condensation.regression import regression_error
from kdjax.algorithms.condensation.siamese import siamese
from kdjax.algorithms.condensation.trajectory import trajectory_matching
from kdjax.algorithms.condensation.unrolled import FINITE
from kdjax.data.condensed import by_class
from kdjax.models.model import from_functions
from kdjax.objectives import Part, learned, term

KEY = jax.random.key(0)
IMAGE, CLASSES, WIDTH = (2, 2, 1), 3, 8
MODEL = tiny.mlp(WIDTH)
AUGMENT = functools.partial(siamese, strategy=('crop', 'scale'))


def sampler(*shapes):
    """Noise that never changes, moved by what is learned: frequencies `[16, width]`."""

    def apply(params, image):
        return params['centre'] + jax.random.normal(KEY, (16, WIDTH)) * jnp.exp(params['log_scale'])

    return from_functions(
        lambda key, example: {'centre': jnp.zeros((1, WIDTH)), 'log_scale': jnp.zeros((1, WIDTH))},
        apply,
        name='sampler',
    )


def against(images, real, variables, frequencies, *, key):
    return matching.characteristic_matching(
        images, real, variables, matching.ascending(frequencies), model=MODEL, tap='hidden', key=key
    )


def regressed(images, labels, real, variables, *, key):
    """KRR on a pooled network's features, towards one-hot labels."""
    support, query = (matching.taps(MODEL, variables, x, key=key)['hidden'].reshape(-1, WIDTH) for x in (images, real))
    targets = jnp.broadcast_to(jnp.eye(CLASSES)[None], (real.shape[0], CLASSES, CLASSES)).reshape(-1, CLASSES)
    return regression_error(support, labels.reshape(-1, CLASSES), query, targets)


def on_the_set(variables, view, *, key):
    images, labels = sets.flat(view['synthetic'], view['synthetic.label'])
    said = MODEL.apply(variables, images, key=key, train=True)[0].prediction
    return jnp.mean(losses.cross_entropy(said, labels))


OBJECTIVES = {
    'dsa': term(
        matching.gradient_matching, 'synthetic', 'synthetic.label', 'batch.image', 'pool', model=MODEL, augment=AUGMENT
    ),
    'fyi': term(
        matching.mean_embedding, 'synthetic', 'batch.image', 'network', model=MODEL, tap='hidden', mirrored=True
    ),
    'ncfm': learned(Part('sampler', sampler, ('batch.image',)))
    + term(against, 'synthetic', 'batch.image', 'network', 'sampler'),
    'mtt': term(
        trajectory_matching, 'synthetic', 'synthetic.label', 'synthetic.rate', 'piece',
        model=MODEL, steps=3, batch=4, threshold=1.0,
    ),
    'krr': term(regressed, 'synthetic', 'synthetic.label', 'batch.image', 'pool'),
}  # fmt: skip


def teachers():
    return {
        'network': networks.fresh(MODEL, axes=2),
        'pool': networks.pool(MODEL, on_the_set, optax.sgd(0.1), name='pool', age=5, size=2, axes=2),
        'piece': experts.drawn_from('experts', ahead=1, first=0, last=2),
    }


def buffer():
    params = jax.eval_shape(lambda: MODEL.init(KEY, jax.ShapeDtypeStruct((1, *IMAGE), jnp.float32)))['params']
    return jax.tree.map(lambda p: jax.ShapeDtypeStruct((2, 4, *p.shape), p.dtype), params)


def shapes(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype), tree)


@pytest.mark.parametrize('name', OBJECTIVES)
def test_it_is_a_term(name):
    model = sets.synthetic_set(IMAGE, classes=CLASSES, per_class=2, soft_labels=True, rate=0.1)
    optimizer = sets.by_part(
        image=optax.adam(0.1), label_logits=optax.sgd(0.1), log_rate=optax.sgd(0.1), others=optax.adam(1e-3)
    )
    player = Player(model, OBJECTIVES[name], optimizer)
    algorithm = play({'synthetic': player}, teachers=teachers(), evaluates=())
    batch = by_class(tiny.dataset())['train'].take(np.arange(4))
    frozen = {'experts': buffer()}
    state = jax.eval_shape(algorithm.init, KEY, frozen, batch)
    after, metrics = jax.eval_shape(algorithm.step, state, frozen, batch, KEY)
    assert shapes(after) == shapes(state)
    assert {m.shape for m in metrics.values()} == {()}
    assert (name == 'mtt') == (f'synthetic/trajectory_matching/{FINITE}' in metrics)
    assert jax.eval_shape(algorithm.evaluate, state, frozen, batch, KEY) == {}
