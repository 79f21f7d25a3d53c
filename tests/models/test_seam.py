"""The seam: scan and grad, saving, when modules are built, where keys come from, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from model_cases import KEY, differs, images, made_up, shape, small

from kdjax.errors import UserError
from kdjax.models import from_nnx, named


def test_a_saved_model_is_restored(tmp_path):
    variables = made_up(small('resnet8'), shape(1, 8, 8, 1))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / 'saved', variables)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / 'saved', jax.eval_shape(lambda: variables))
    assert differs(variables, restored) == []


def test_paths_name_stage_block_and_layer():
    variables = jax.eval_shape(small('resnet8').init, KEY, shape(1, 8, 8, 1))
    assert variables['params']['stage2']['0']['shortcut']['kernel'].shape == (1, 1, 16, 32)
    assert variables['stats']['stage2']['0']['norm2']['mean'].shape == (32,)


def test_other_models_do_not_disturb_an_initialisation():
    def drawn():
        return named('mlp-8', classes=3, image_shape=(8, 8, 1)).init(KEY, shape(1, 8, 8, 1))

    first = drawn()
    named('mlp-9', classes=3, image_shape=(8, 8, 1)).init(jax.random.key(5), shape(1, 8, 8, 1))
    assert differs(first, drawn()) == []


class Noisy(nnx.Module):
    """Adds noise in training."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(2, 2, use_bias=False, rngs=rngs)

    def __call__(self, x, *, train, key):
        x = self.linear(x)
        return x + jax.random.normal(key, x.shape) if train else x


def test_randomness_comes_from_the_key_of_the_call():
    model, x = from_nnx(Noisy, name='noisy'), images(3, 2)
    variables = model.init(KEY, x)
    one, same, other = (
        model.apply(variables, x, key=jax.random.key(seed), train=True)[0].prediction for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()
    quiet = model.apply(variables, x, key=jax.random.key(1), train=False)[0].prediction
    np.testing.assert_allclose(quiet, x @ variables['params']['linear']['kernel'], rtol=1e-5)


def test_a_module_is_built_once_abstractly_and_once_for_each_initialisation():
    built = []

    def build(rngs):
        built.append(rngs)
        return Noisy(rngs)

    model = from_nnx(build, name='noisy')
    assert built == []
    variables = model.init(KEY, jnp.ones((3, 2)))
    for seed in range(3):
        model.apply(variables, jnp.ones((3, 2)), key=jax.random.key(seed), train=True)
    assert len(built) == 2


def test_scan_over_gradient_steps_carries_batch_statistics():
    model, x, labels = small('resnet8'), images(6, 8, 8, 1), jnp.array([0, 1, 2, 0, 1, 2])

    def loss(params, stats, key):
        outputs, moved = model.apply({'params': params, 'stats': stats}, x, key=key, train=True)
        values = optax.softmax_cross_entropy_with_integer_labels(outputs.prediction, labels)
        return jnp.mean(values), moved['stats']

    def step(variables, key):
        gradient = jax.value_and_grad(loss, has_aux=True)
        (value, stats), slope = gradient(variables['params'], variables['stats'], key)
        params = jax.tree.map(lambda p, g: p - 0.01 * g, variables['params'], slope)
        return {'params': params, 'stats': stats}, value

    variables, keys = made_up(model, x), jax.random.split(KEY, 3)
    last, losses = jax.jit(lambda v: jax.lax.scan(step, v, keys))(variables)
    assert losses[2] < losses[0]
    assert len(differs(variables, last)) == len(jax.tree.leaves(variables))


class Hoarder(nnx.Module):
    def __init__(self, rngs):
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, *, train, key):
        return self.dropout(x)


def test_stored_random_state_is_refused():
    with pytest.raises(UserError, match=r"model 'hoarder' stores nnx.Rngs: draw from the `key` of the call"):
        from_nnx(Hoarder, name='hoarder').init(KEY, jnp.ones((3, 2)))


def test_variables_of_another_model_are_refused():
    other = made_up(small('mlp-8-8'), shape(1, 8, 8, 1))
    with pytest.raises(UserError, match=r"mlp-8\(.*params/hidden: expected \['0'\], found \['0', '1'\]"):
        small('mlp-8').apply(other, images(1, 8, 8, 1), key=KEY, train=False)
