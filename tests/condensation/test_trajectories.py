"""Experts, the pieces of their ways, and sets that lead networks along them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.algorithms.condensation import experts, trajectory
from kdjax.algorithms.condensation.sets import started
from kdjax.errors import UserError
from kdjax.models.named import named
from kdjax.view import View

KEY = jax.random.key(0)
IMAGE, CLASSES = (2, 2, 1), 3


@functools.cache
def mlp(norm='none', width=4):
    return named(f'mlp-{width}', classes=CLASSES, image_shape=IMAGE, norm=norm)


def data(examples=12):
    rng = np.random.default_rng(0)
    labels = np.arange(examples) % CLASSES
    images = rng.normal(size=(examples, *IMAGE)) + np.eye(4)[labels].reshape(-1, *IMAGE)
    return jnp.asarray(images, jnp.float32), jnp.asarray(labels, jnp.int32)


@functools.cache
def buffer(radius=0.0):
    images, labels = data()
    one = functools.partial(expert_of, images=images, labels=labels, radius=radius)
    return jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(KEY, 2))


def expert_of(key, *, images, labels, radius):
    return experts.expert(mlp(), images, labels, key=key, epochs=3, batch=4, rate=0.5, radius=radius)


def test_experts_start_fresh_keep_every_epoch_and_learn():
    found = buffer()
    assert {leaf.shape[:2] for leaf in jax.tree.leaves(found)} == {(2, 4)}
    experts.check_experts(found, mlp(), IMAGE)
    images, labels = data()

    def loss(params):
        said = mlp().apply({'params': params, 'stats': {}}, images, key=KEY, train=False)[0].prediction
        return float(-jnp.mean(jax.nn.log_softmax(said)[jnp.arange(12), labels]))

    first, last = (loss(jax.tree.map(lambda a, e=e: a[0, e], found)) for e in (0, 3))
    assert last < first - 0.1


def test_flat_gradient_is_that_of_the_worst_point_nearby():
    """Of w^T A w / 2 in closed form; with radius 0 it is the plain gradient, whatever the weight."""
    a = jnp.asarray([[2.0, 0.3], [0.3, 1.0]])
    w = jnp.asarray([1.0, -2.0])

    def loss(w):
        return 0.5 * w @ a @ w

    g = a @ w
    worst = a @ (w + 0.1 * w**2 * g / jnp.linalg.norm(jnp.abs(w) * g))
    across = g - worst * (g @ worst) / (worst @ worst)
    value, got = experts.flat_gradient(loss, w, radius=0.1, weight=0.3)
    np.testing.assert_allclose(got, worst - 0.3 * across, rtol=1e-5)
    np.testing.assert_allclose(value, loss(w), rtol=1e-6)
    np.testing.assert_allclose(experts.flat_gradient(loss, w, radius=0.0, weight=0.7)[1], g, rtol=1e-5)


def test_windows_grow_to_their_end():
    upper = [int(experts.window(s, first=0, begin=2, last=6, grows=8)[1]) for s in (0, 1, 2, 4, 8, 99)]
    assert upper == [2, 2, 3, 4, 6, 6]
    assert [int(e) for e in experts.window(5, first=1, last=4)] == [1, 4]
    with pytest.raises(UserError, match=r'start epochs 4 .. 4 -> 4'):
        experts.window(0, first=4, last=4)


def test_pieces_are_of_one_expert_and_as_far_apart_as_asked():
    teacher, found = experts.drawn_from('experts', ahead=2, first=0, last=2), buffer()
    for seed in range(4):
        said = teacher.apply({}, {'experts': found}, View({}, {}, 0), key=jax.random.key(seed))
        epoch = int(said.taps['epoch'])
        assert epoch in (0, 1)
        which = [
            e for e in range(2)
            if np.array_equal(jax.tree.leaves(found)[1][e, epoch], jax.tree.leaves(said.prediction['start'])[1])
        ]  # fmt: skip
        target = jax.tree.map(lambda a, w=which[0], e=epoch: a[w, e + 2], found)
        jax.tree.map(np.testing.assert_array_equal, said.prediction['target'], target)
    with pytest.raises(UserError, match=r"a target 2 later, but 'experts' ends at epoch 3: lower last or ahead"):
        experts.drawn_from('experts', ahead=2, first=0, last=3).apply({}, {'experts': found}, View({}, {}, 0), key=KEY)


def matched(images, labels, rate, piece, **options):
    steps, batch = options.pop('steps', 3), options.pop('batch', 6)
    return trajectory.trajectory_matching(
        images, labels, rate, piece, model=mlp(), steps=steps, batch=batch, key=KEY, **options
    )[0]


def piece(ahead=1):
    one = jax.tree.map(lambda a: a[0], buffer())
    return {'start': jax.tree.map(lambda a: a[0], one), 'target': jax.tree.map(lambda a: a[ahead], one)}


def test_the_data_leads_where_one_step_on_it_leads():
    """One step on all of a set, towards the point that such a step reaches: 0; at rate 0 nothing is gained: 1."""
    images, labels = (x.reshape(4, CLASSES, *x.shape[1:]) for x in (data()[0], jax.nn.one_hot(data()[1], CLASSES)))
    start = piece()['start']

    def loss(params):
        flat = images.reshape(-1, *IMAGE)
        said = mlp().apply({'params': params, 'stats': {}}, flat, key=KEY, train=True)[0].prediction
        return -jnp.mean(jnp.sum(labels.reshape(-1, CLASSES) * jax.nn.log_softmax(said), -1))

    target = jax.tree.map(lambda p, g: p - 0.3 * g, start, jax.grad(loss)(start))
    for rate, wanted in ((0.3, 0.0), (0.0, 1.0), (0.15, 0.25)):
        got = matched(images, labels, jnp.float32(rate), {'start': start, 'target': target}, steps=1, batch=12)
        np.testing.assert_allclose(got, [wanted], atol=1e-5)


def test_errors_accumulate_over_the_pieces_of_a_way():
    """Along the way that the set itself leads, 0; where nothing is learned, 1 at every piece."""
    images, labels = (x.reshape(4, CLASSES, *x.shape[1:]) for x in (data()[0], jax.nn.one_hot(data()[1], CLASSES)))

    def loss(params):
        said = mlp().apply({'params': params, 'stats': {}}, data()[0], key=KEY, train=True)[0].prediction
        return -jnp.mean(jax.nn.log_softmax(said)[jnp.arange(12), data()[1]])

    def one(params, _):
        params = jax.tree.map(lambda p, g: p - 0.3 * g, params, jax.grad(loss)(params))
        return params, params

    first = piece()['start']
    rest = jax.jit(lambda p: jax.lax.scan(one, p, length=4)[1])(first)
    way = jax.tree.map(lambda p, r: jnp.concatenate([p[None], r]), first, rest)
    options = {'model': mlp(), 'steps': 2, 'batch': 12, 'ahead': 2, 'key': KEY}
    error = jax.jit(functools.partial(trajectory.accumulated_error, **options))
    np.testing.assert_allclose(error(images, labels, jnp.float32(0.3), way), [0.0, 0.0], atol=1e-5)
    np.testing.assert_allclose(error(images, labels, jnp.float32(0.0), way), [1.0, 1.0], atol=1e-5)


def test_gradients_reach_images_labels_and_rate_and_stop_at_the_threshold():
    start = started(jax.random.normal(KEY, (2, CLASSES, *IMAGE)))['params']['image']
    labels = jnp.full((2, CLASSES, CLASSES), 1 / 3)

    def loss(x, y, rate, **options):
        return jnp.sum(matched(x, y, rate, piece(), **options))

    both = jax.jit(lambda *a: [jax.grad(functools.partial(loss, threshold=t), (0, 1, 2))(*a) for t in (None, 1e-6)])
    free, stopped = both(start, labels, jnp.float32(0.1))
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in free)
    assert all(np.abs(g).max() == 0 for g in stopped)


def test_minibatches_see_everything_before_anything_again():
    rows = [trajectory.minibatch(jnp.int32(i), 7, 3, key=KEY) for i in range(4)]
    assert len(np.unique(np.concatenate(rows[:2]))) == 6
    assert len(np.unique(np.concatenate(rows[2:]))) == 6
    assert not np.array_equal(rows[0], rows[2])


def test_soft_labels_are_the_mean_of_experts_that_are_right():
    logits = jnp.asarray([[[3.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [5.0, 0.0]]])
    got = experts.logits_of_the_right(logits, jnp.asarray([0, 1]))
    np.testing.assert_allclose(got, [[2.0, 0.0], [0.0, 4.0]])
    nobody = experts.logits_of_the_right(logits, jnp.asarray([1, 1]))
    np.testing.assert_allclose(nobody[0], [0.0, 5.0])


def test_what_is_no_buffer_of_this_network():
    with pytest.raises(
        UserError, match=r"experts are of another network than 'mlp-5\(.*they differ at classifier/kernel"
    ):
        experts.check_experts(buffer(), mlp(width=5), IMAGE)
    wider = jax.tree.map(lambda a: jnp.zeros((*a.shape[:-1], a.shape[-1] + 1)), piece())
    with pytest.raises(UserError, match=r"for images \[2, 2, 1\], or of other data: they differ at"):
        matched(jnp.zeros((2, CLASSES, *IMAGE)), jnp.zeros((2, CLASSES, CLASSES)), jnp.float32(0.1), wider)
    with pytest.raises(UserError, match='keeps statistics of batches, which no trajectory holds'):
        experts.check_without_statistics(mlp(norm='batch'), data()[0])
    with pytest.raises(UserError, match='batch=7 of a set of 6'):
        matched(jnp.zeros((2, 3, *IMAGE)), jnp.zeros((2, 3, 3)), jnp.float32(0.1), piece(), batch=7)
    with pytest.raises(UserError, match='batch=13 of 12 images that experts learn from'):
        experts.expert(mlp(), *data(), key=KEY, epochs=1, batch=13, rate=0.1)
