"""Sets as players, the networks they are matched through, and networks that learn from them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from kdjax import losses
from kdjax.algorithms import Player, play
from kdjax.algorithms.condensation import learning, matching, networks, sets
from kdjax.data.condensed import by_class
from kdjax.errors import UserError
from kdjax.models.model import Outputs
from kdjax.objectives import term
from kdjax.view import View

KEY = jax.random.key(0)
IMAGE, CLASSES = (2, 2, 1), 3
SET = sets.synthetic_set(IMAGE, classes=CLASSES, per_class=2, soft_labels=True, rate=0.1)


def test_a_set_says_its_images_labels_and_rate():
    variables = SET.init(KEY, None)
    said, after = SET.apply(variables, None, key=KEY, train=True)
    assert said.prediction.shape == (2, 3, *IMAGE)
    np.testing.assert_array_equal(np.argmax(np.asarray(said.taps['label']), -1), [[0, 1, 2], [0, 1, 2]])
    np.testing.assert_allclose(np.sum(said.taps['label'], -1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(said.taps['rate'], 0.1, rtol=1e-5)
    assert after is variables
    hard = sets.synthetic_set(IMAGE, classes=CLASSES, per_class=2)
    said, _ = hard.apply(hard.init(KEY, None), None, key=KEY, train=True)
    np.testing.assert_array_equal(said.taps['label'][0], np.eye(3))
    assert set(said.taps) == {'label'}


def test_parts_have_their_own_optimizers_and_pixels_stay_valid():
    params = {'synthetic': sets.started(jnp.zeros((1, 3, *IMAGE)), soft_labels=True, rate=0.5)['params']}
    ones = jax.tree.map(jnp.ones_like, params)
    optimizer = sets.by_part(image=sets.within(optax.sgd(3.0), -1.0, 1.0), log_rate=optax.sgd(0.5))
    change, _ = optimizer.update(ones, optimizer.init(params), params)
    np.testing.assert_array_equal(change['synthetic']['image'], -1.0)
    np.testing.assert_array_equal(change['synthetic']['label_logits'], 0.0)
    np.testing.assert_array_equal(change['synthetic']['log_rate'], -0.5)
    with pytest.raises(UserError, match="a set has no part 'pixels' to optimise"):
        sets.by_part(pixels=optax.sgd(1.0))
    with pytest.raises(UserError, match='a set of 0 images for each of 3 classes'):
        sets.synthetic_set(IMAGE, classes=3, per_class=0)


def prepared(batch, *, key, train):
    return {**batch, 'image': jnp.asarray(batch['image'], jnp.float32) - 0.5}


@functools.cache
def stepped(steps=12):
    """Mean matching through fresh tiny networks: the state after some steps, and the metrics of each."""
    data = by_class(tiny.dataset())
    objective = term(
        matching.mean_embedding, 'synthetic', 'batch.image', 'network', model=tiny.mlp(), tap='hidden', name='dm'
    )
    player = Player(
        sets.synthetic_set(IMAGE, classes=CLASSES, per_class=2), objective, sets.by_part(image=optax.sgd(0.3)),
    )  # fmt: skip
    algorithm = play({'synthetic': player}, teachers={'network': networks.fresh(tiny.mlp(), axes=2)}, prepare=prepared)
    batch = data['train'].take(np.arange(8))
    state = algorithm.init(KEY, {}, batch)
    step, rows = jax.jit(algorithm.step), []
    for _ in range(steps):
        state, metrics = step(state, {}, batch, KEY)
        rows.append(float(metrics['synthetic/dm']))
    return state, rows, batch


def test_a_set_is_a_player_and_comes_to_match():
    state, rows, batch = stepped()
    assert np.mean(rows[-3:]) < 0.5 * np.mean(rows[:3])
    means = np.asarray(state['variables']['synthetic']['params']['image']).mean(0)
    wanted = (batch['image'] - 0.5).mean(0)
    start = np.asarray(SET.init(KEY, None)['params']['image']).mean(0)
    assert np.square(means - wanted).sum() < np.square(start - wanted).sum()


def pooled(name='pool', **options):
    def loss(variables, view, *, key):
        said = tiny.mlp().apply(variables, view['batch.flat'], key=key, train=True)[0].prediction
        return jnp.mean(losses.cross_entropy(said, view['batch.label']))

    return networks.pool(tiny.mlp(), loss, optax.adam(0.05), name=name, like='batch.flat', **options)


def test_networks_of_a_pool_train_along_and_begin_anew():
    """Size 1, age 3: the loss falls for three steps, then the network is fresh."""
    pool = pooled(age=3, updates=5)
    image, label = tiny.images(6, 0)
    batch = {'flat': jnp.asarray(image), 'label': jnp.asarray(label)}
    memory = pool.init({}, batch, {})

    @jax.jit
    def step(memory, number):
        view = View({'pool': lambda view: pool.apply(memory, {}, view, key=jax.random.fold_in(KEY, number))}, batch, 0)
        variables = view['pool']
        return variables, pool.update(memory, view, {})

    def loss(variables):
        said = tiny.mlp().apply(variables, batch['flat'], key=KEY, train=False)[0].prediction
        return float(jnp.mean(losses.cross_entropy(said, batch['label'])))

    found, lives = [], []
    for number in range(7):
        variables, memory = step(memory, number)
        found.append(loss(variables))
        lives.append(int(memory['lives'][0]))
    assert lives == [1, 1, 1, 2, 2, 2, 3]
    assert found[2] < found[1] < found[0] and found[5] < found[4] < found[3]
    assert found[3] > found[2]


def test_first_lives_of_a_pool_are_spread():
    pool = pooled(age=8, size=4)
    batch = {'flat': jnp.zeros((6, 2, 2, 1)), 'label': jnp.zeros(6, jnp.int32)}
    memory = pool.init({}, batch, {})
    left = {}
    for seed in range(24):
        said = pool.apply(memory, {}, View({}, batch, 0), key=jax.random.key(seed))
        left[int(said.taps['chosen'])] = int(said.taps['left'])
    assert left == {0: 2, 1: 4, 2: 6, 3: 8}
    with pytest.raises(UserError, match='age=0 of a pool of networks'):
        pooled(age=0)


def test_minibatches_of_a_stored_set():
    variables = sets.started(jnp.arange(6.0).reshape(2, 3, 1, 1, 1) * jnp.ones((2, 3, *IMAGE)), soft_labels=True)
    soft = sets.synthetic_set(IMAGE, classes=3, per_class=2, soft_labels=True)
    teacher = learning.learned_from(soft, name='set', batch=4)
    said = teacher.apply({}, {'set': variables}, View({}, {}, 3), key=KEY)
    assert isinstance(said, Outputs) and said.prediction.shape == (4, *IMAGE)
    np.testing.assert_array_equal(said.prediction[:, 0, 0, 0] % 3, said.taps['label'])
    assert len(np.unique(said.prediction[:, 0, 0, 0])) == 4
    everything = learning.learned_from(soft, name='set', batch=99).apply(
        {}, {'set': variables}, View({}, {}, 0), key=KEY
    )
    assert len(everything.prediction) == 6


def test_many_networks_by_one_program_are_those_trained_alone():
    image, label = tiny.images(12, 0)
    images, labels = jnp.asarray(image), jax.nn.one_hot(label, CLASSES)
    options = {'steps': 20, 'batch': 6, 'optimizer': optax.adam(0.05)}
    keys = jax.random.split(KEY, 2)

    @jax.jit
    def three_ways(keys):
        at_once, in_turn = (
            learning.many(tiny.mlp(), images, labels, keys=keys, at_once=way, **options) for way in (True, False)
        )
        return at_once, in_turn, learning.trained(tiny.mlp(), images, labels, key=keys[1], **options)

    at_once, in_turn, alone = three_ways(keys)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), at_once, in_turn)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-3, atol=1e-4), in_turn, alone)
    right = learning.accuracies(tiny.mlp(), at_once, images, jnp.asarray(label))
    assert right.shape == (2,) and (np.asarray(right) > 0.6).all()
