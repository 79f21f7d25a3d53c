"""The seam: what crosses it, under scan and grad, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import linen, nnx

from kdjax.errors import UserError
from kdjax.models import Outputs, from_functions, from_linen, from_nnx, named

IMAGES = jax.random.normal(jax.random.key(7), (6, 8, 8, 1))
LABELS = jnp.array([0, 1, 2, 0, 1, 2])


def resnet8():
    return named('resnet8', classes=3, image_shape=(8, 8, 1))


@pytest.fixture(scope='module')
def resnet():
    model = resnet8()
    return model, jax.jit(model.init)(jax.random.key(0), IMAGES)


def leaves_equal(a, b):
    return jax.tree.all(jax.tree.map(jnp.array_equal, a, b))


def test_variables_are_plain_nested_dicts_of_arrays(resnet):
    _, variables = resnet

    def check(tree):
        if type(tree) is dict:
            assert all(type(key) is str for key in tree)
            return all(map(check, tree.values()))
        return isinstance(tree, jax.Array)

    assert set(variables) == {'params', 'stats'}
    assert check(variables)
    assert variables['params']['stage1']['0']['conv1']['kernel'].shape == (3, 3, 16, 16)


def test_a_saved_model_is_restored(resnet, tmp_path):
    _, variables = resnet
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / 'saved', variables)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / 'saved', jax.eval_shape(lambda: variables))
    assert leaves_equal(restored, variables)


def test_training_moves_statistics_and_evaluation_returns_the_same_variables(resnet):
    model, variables = resnet
    _, trained = jax.jit(lambda v: model.apply(v, IMAGES, key=jax.random.key(1), train=True))(variables)
    assert trained['params'] is not None and leaves_equal(trained['params'], variables['params'])
    changed = jax.tree.map(lambda a, b: not jnp.array_equal(a, b), trained['stats'], variables['stats'])
    assert jax.tree.all(changed)

    @jax.jit
    def evaluate(frozen):
        outputs, same = model.apply(frozen, IMAGES, key=jax.random.key(1), train=False)
        assert same is frozen
        return outputs.prediction

    before = jax.tree.map(np.array, variables)
    assert evaluate(variables).shape == (6, 3)
    assert leaves_equal(before, variables)


def test_scan_over_gradient_steps_carries_batch_statistics(resnet):
    model, variables = resnet

    def loss(params, stats, key):
        outputs, moved = model.apply({'params': params, 'stats': stats}, IMAGES, key=key, train=True)
        values = optax.softmax_cross_entropy_with_integer_labels(outputs.prediction, LABELS)
        return jnp.mean(values), moved['stats']

    def step(variables, key):
        (value, stats), slope = jax.value_and_grad(loss, has_aux=True)(
            variables['params'], variables['stats'], key
        )
        params = jax.tree.map(lambda p, g: p - 0.05 * g, variables['params'], slope)
        return {'params': params, 'stats': stats}, value

    keys = jax.random.split(jax.random.key(3), 3)
    last, losses = jax.jit(lambda v: jax.lax.scan(step, v, keys))(variables)
    assert jax.tree.structure(last) == jax.tree.structure(variables)
    assert losses[2] < losses[0]
    moved = jax.tree.map(lambda a, b: not jnp.array_equal(a, b), last, variables)
    assert jax.tree.all(moved)


def test_init_depends_on_the_key_alone():
    model = named('mlp-8', classes=3, image_shape=(8, 8, 1))
    first = model.init(jax.random.key(0), IMAGES)
    named('mlp-9', classes=3, image_shape=(8, 8, 1)).init(jax.random.key(5), IMAGES)
    rebuilt = named('mlp-8', classes=3, image_shape=(8, 8, 1))
    assert leaves_equal(rebuilt.init(jax.random.key(0), IMAGES), first)
    assert leaves_equal(jax.jit(model.init)(jax.random.key(0), IMAGES), first)
    other = model.init(jax.random.key(1), IMAGES)
    assert not jnp.array_equal(
        first['params']['hidden']['0']['kernel'], other['params']['hidden']['0']['kernel']
    )


class Noisy(nnx.Module):
    """Adds noise in training: randomness that comes from the call."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(2, 2, rngs=rngs)

    def __call__(self, x, *, train, key):
        x = self.linear(x)
        return x + jax.random.normal(key, x.shape) if train else x


def test_a_bare_prediction_becomes_outputs_and_the_key_is_that_of_the_call():
    model = from_nnx(Noisy, name='noisy')
    x = jnp.ones((3, 2))
    variables = model.init(jax.random.key(0), x)
    said = [model.apply(variables, x, key=jax.random.key(k), train=True)[0] for k in (1, 1, 2)]
    assert isinstance(said[0], Outputs) and said[0].taps == {}
    assert jnp.array_equal(said[0].prediction, said[1].prediction)
    assert not jnp.array_equal(said[0].prediction, said[2].prediction)
    quiet, same = model.apply(variables, x, key=jax.random.key(1), train=False)
    assert jnp.allclose(quiet.prediction, x @ variables['params']['linear']['kernel'])
    assert same is variables


def test_the_module_is_built_abstractly_once():
    built = []

    def build(rngs):
        built.append(rngs)
        return Noisy(rngs)

    model = from_nnx(build, name='noisy')
    assert not built
    x = jnp.ones((3, 2))
    variables = model.init(jax.random.key(0), x)
    for seed in range(3):
        model.apply(variables, x, key=jax.random.key(seed), train=True)
    assert len(built) == 2


def test_stored_random_state_is_refused():
    class Hoarder(nnx.Module):
        def __init__(self, rngs):
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x, *, train, key):
            return self.dropout(x)

    with pytest.raises(UserError, match=r"model 'hoarder' stores nnx.Rngs: draw from the `key` of the call"):
        from_nnx(Hoarder, name='hoarder').init(jax.random.key(0), IMAGES)


def test_variables_of_another_model_are_refused(resnet):
    _, variables = resnet
    model = named('mlp-8', classes=3, image_shape=(8, 8, 1))
    with pytest.raises(UserError, match=r"mlp-8\(.*\): params: expected \['classifier', 'hidden', 'norms'\]"):
        model.apply(variables, IMAGES, key=jax.random.key(0), train=False)


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.Dense(4)(x.reshape(x.shape[0], -1))
        x = linen.BatchNorm(use_running_average=not train)(x)
        hidden = linen.Dropout(0.5, deterministic=not train)(x)
        return Outputs(linen.Dense(3)(hidden), {'hidden': hidden})


def test_linen_modules_cross_the_same_seam():
    model = from_linen(LinenNet(), name='linen')
    variables = model.init(jax.random.key(0), jax.ShapeDtypeStruct(IMAGES.shape, IMAGES.dtype))
    assert set(variables['stats']) == {'batch_stats'}
    assert set(variables['params']) == {'Dense_0', 'BatchNorm_0', 'Dense_1'}
    outputs, moved = model.apply(variables, IMAGES, key=jax.random.key(1), train=True)
    assert outputs.prediction.shape == (6, 3) and set(outputs.taps) == {'hidden'}
    assert jax.tree.structure(moved) == jax.tree.structure(variables)
    assert not leaves_equal(moved['stats'], variables['stats'])
    other, _ = model.apply(variables, IMAGES, key=jax.random.key(2), train=True)
    assert not jnp.array_equal(other.prediction, outputs.prediction)
    _, same = model.apply(variables, IMAGES, key=jax.random.key(1), train=False)
    assert same is variables


def test_linen_modules_without_a_training_mode():
    model = from_linen(linen.Dense(3), name='dense')
    x = jnp.ones((2, 4))
    variables = model.init(jax.random.key(0), x)
    outputs, after = model.apply(variables, x, key=jax.random.key(1), train=True)
    assert variables['stats'] == {} and after == variables
    assert jnp.allclose(outputs.prediction, x @ variables['params']['kernel'])


def test_plain_functions_cross_the_same_seam():
    def init(key, example):
        return {'slope': jnp.full(example.shape[-1], 2.0)}

    model = from_functions(init, lambda params, x: x @ params['slope'], name='dot')
    x = jnp.ones((2, 4))
    variables = model.init(jax.random.key(0), x)
    outputs, same = model.apply(variables, x, key=jax.random.key(1), train=True)
    assert jnp.array_equal(outputs.prediction, jnp.full(2, 8.0))
    assert same is variables
