"""Networks between start and end, samplers that scale, and sets whose targets are vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from kdjax.algorithms import Player, play
from kdjax.algorithms.condensation import frequencies, matching, pretrained, targets
from kdjax.algorithms.condensation.sets import by_part, synthetic_set
from kdjax.errors import UserError
from kdjax.models.frequency_sampler import frequency_sampler
from kdjax.models.model import Outputs, from_functions
from kdjax.objectives import Part, learned, term
from kdjax.view import View

KEY = jax.random.key(0)
IMAGE, CLASSES = (2, 2, 1), 3


def test_networks_lie_between_their_own_start_and_end():
    buffer = {'w': jnp.asarray([[0.0, 9.0, 1.0], [10.0, 9.0, 12.0]])}
    teacher = pretrained.between('experts')
    run = jax.jit(lambda key: teacher.apply({}, {'experts': buffer}, View({}, {}, 0), key=key))
    found = [run(jax.random.key(seed)) for seed in range(20)]
    places = np.array([float(said.prediction['params']['w']) for said in found])
    ends = np.array([float(said.taps['trained']['params']['w']) for said in found])
    assert set(ends) == {1.0, 12.0}
    share = np.where(ends == 1.0, 1 - places, (12 - places) / 2)
    assert ((share >= 0) & (share <= 1)).all() and np.ptp(share) > 0.5


def test_calibration_is_the_cross_entropy_of_a_constant_network():
    model = tiny.mlp()
    variables = model.init(KEY, jax.ShapeDtypeStruct((1, *IMAGE), jnp.float32))
    images = jax.random.normal(KEY, (2, CLASSES, *IMAGE))
    labels = jnp.broadcast_to(jnp.eye(CLASSES)[None], (2, CLASSES, CLASSES))

    @jax.jit
    def both(images, variables):
        def values(images, variables):
            return pretrained.calibration(images, labels, variables, model=model, key=KEY)

        return values(images, variables), jax.grad(lambda *a: jnp.sum(values(*a)), (0, 1))(images, variables)

    values, (moved, still) = both(images, variables)
    said, _ = model.apply(variables, images.reshape(-1, *IMAGE), key=KEY, train=False)
    logits = np.asarray(said.prediction, np.float64)
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(6), np.tile(np.arange(CLASSES), 2)]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert np.abs(moved).max() > 0
    assert all(np.abs(leaf).max() == 0 for leaf in jax.tree.leaves(still['params']))


def test_a_sampler_scales_frequencies_by_up_to_two():
    drawn = frequencies.normal_frequencies(64, 5).apply({}, {}, View({}, {}, 0), key=KEY)
    model = frequency_sampler(drawn.prediction, drawn.taps['noise'])
    variables = model.init(KEY, None)
    said, _ = model.apply(variables, (drawn.prediction, 3 * drawn.taps['noise']), key=KEY, train=True)
    scale = np.asarray(said.prediction / drawn.prediction)
    assert said.prediction.shape == (64, 5) and (scale > 0).all() and (scale < 2).all() and np.ptp(scale) > 0.1


def test_the_sampler_of_a_game_climbs_while_the_set_descends():
    """At the draws of one step the distance grows with the new sampler, and falls with the new set."""
    model, width = tiny.mlp(4), 4
    variables = model.init(KEY, jax.ShapeDtypeStruct((1, *IMAGE), jnp.float32))
    drawn = frequencies.normal_frequencies(8, width).apply({}, {}, View({}, {}, 0), key=KEY)

    def distance(images, real, at, *, key):
        return matching.characteristic_matching(images, real, variables, at, model=model, tap='hidden', key=key)

    def against(images, real, at, *, key):
        return distance(images, real, matching.ascending(at), key=key)

    objective = learned(Part('sampler', frequency_sampler, ('batch.frequencies', 'batch.noise')))
    player = Player(
        synthetic_set(IMAGE, classes=CLASSES, per_class=2),
        objective + term(against, 'synthetic', 'batch.image', 'sampler'),
        by_part(image=optax.sgd(0.1), others=optax.sgd(0.1)),
    )
    batch = {
        'image': jax.random.normal(jax.random.key(1), (4, CLASSES, *IMAGE)),
        'frequencies': drawn.prediction, 'noise': drawn.taps['noise'],
    }  # fmt: skip
    algorithm = play({'synthetic': player}, evaluates=())

    @jax.jit
    def compared():
        state = algorithm.init(KEY, {}, batch)
        after, _ = algorithm.step(state, {}, batch, KEY)
        old, new = state['variables'], after['variables']
        build = frequency_sampler(drawn.prediction, drawn.taps['noise'])

        def value(images, sampler):
            at, _ = build.apply(sampler, (drawn.prediction, drawn.taps['noise']), key=KEY, train=True)
            return jnp.mean(distance(images['params']['image'], batch['image'], at.prediction, key=KEY))

        pairs = (old, old), (new, old), (old, new)
        return [value(a['synthetic'], b['sampler']) for a, b in pairs]

    before, set_moved, sampler_moved = compared()
    assert set_moved < before < sampler_moved


def linear():
    """Features W x, a head on them that the readout does not see."""

    def init(key, example):
        return {'w': jax.random.normal(key, (4, 3)), 'head': jnp.ones((3, 2))}

    def apply(params, x):
        features = x.reshape(len(x), -1) @ params['w']
        return Outputs(features @ params['head'], {'pooled': features})

    model = from_functions(init, apply, name='linear')
    return model, model.init(KEY, None)


def test_a_set_that_holds_an_affine_function_of_features_says_it_everywhere():
    model, variables = linear()
    images, real = (jax.random.normal(jax.random.key(s), (12, *IMAGE)) for s in (1, 2))

    def wanted(x):
        return model.apply(variables, x, key=KEY, train=False)[0].taps['pooled'] @ jnp.ones((3, 2)) + 2.0

    @jax.jit
    def both(images, target, real, goal):
        def error(*args):
            return targets.representation_matching(*args, variables, model=model, key=KEY)

        args = images, target, real, goal
        return error(*args), jax.grad(lambda *a: jnp.sum(error(*a)), (0, 1, 2, 3))(*args)

    exact, _ = both(images, wanted(images), real, wanted(real))
    np.testing.assert_allclose(exact, 0.0, atol=1e-3)
    other, gradients = both(images, jax.random.normal(KEY, (12, 2)), real, wanted(real))
    assert float(other.min()) > 1e-3
    assert [bool(np.abs(g).max() > 0) for g in gradients] == [True, True, False, False]


def test_what_networks_of_the_pool_learn_is_the_whole_set():
    model, variables = linear()
    images, target = jax.random.normal(KEY, (5, *IMAGE)), jnp.ones((5, 2))
    view = View({'set': lambda view: Outputs(images, {'target': target})}, {}, 0)
    said, _ = model.apply(variables, images, key=KEY, train=True)
    value = targets.fitted_to(variables, view, key=KEY, model=model, node='set')
    np.testing.assert_allclose(value, np.mean((np.asarray(said.prediction) - 1) ** 2), rtol=1e-5)


def test_minibatches_of_a_set_keep_images_and_targets_together():
    model = targets.target_set(IMAGE, examples=6, width=1)
    place = jnp.arange(6.0)
    stored = targets.paired(place.reshape(6, 1, 1, 1) * jnp.ones((6, *IMAGE)), place[:, None])
    teacher = targets.learned_from_targets(model, name='set', batch=4)
    said = teacher.apply({}, {'set': stored}, View({}, {}, 0), key=KEY)
    assert said.prediction.shape == (4, *IMAGE) and len(set(np.asarray(said.taps['target'])[:, 0])) == 4
    np.testing.assert_array_equal(said.prediction[:, 0, 0, 0], said.taps['target'][:, 0])


def test_a_set_of_nothing():
    with pytest.raises(UserError, match='a set of 0 images with targets of width 3'):
        targets.target_set(IMAGE, examples=0, width=3)
