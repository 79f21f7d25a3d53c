"""A program asks XLA for what it knows, and runs the same steps on any layout."""

import jax
import numpy as np
import optax
import pytest
from tiny import dataset, mlp

from kdjax.algorithms import supervised
from kdjax.models.named import named
from kdjax.objectives import hard_labels
from kdjax.run import program as programs
from kdjax.run.program import COMPILED_QUICKLY, EIGEN_CONVOLUTIONS, Program, compiler_options

ADAM = optax.adam(0.01)


@pytest.fixture
def fresh_options():
    compiler_options.cache_clear()
    yield
    compiler_options.cache_clear()


def test_on_this_cpu_both_options_are_known(fresh_options):
    assert jax.default_backend() == 'cpu'
    assert compiler_options() == EIGEN_CONVOLUTIONS
    assert compiler_options(once=True) == COMPILED_QUICKLY


def test_an_xla_without_the_option_is_asked_for_nothing(fresh_options, monkeypatch):
    monkeypatch.setattr(programs, 'EIGEN_CONVOLUTIONS', {'xla_cpu_no_such_option': 'true'})
    assert compiler_options() == {}


def test_other_backends_are_asked_for_nothing(fresh_options, monkeypatch):
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    assert compiler_options() == {}


def test_the_abstract_state_is_the_state():
    """Shapes, types and shardings are known before anything is made."""
    program, source = Program(supervised(mlp(), hard_labels(), ADAM)), dataset()['train']
    batch = source.take(np.arange(4))
    state, abstract = program.init(jax.random.key(0), {}, batch), program.abstract({}, batch)
    assert jax.tree.structure(state) == jax.tree.structure(abstract)
    for made, said in zip(jax.tree.leaves(state), jax.tree.leaves(abstract), strict=True):
        assert (made.shape, made.dtype) == (said.shape, said.dtype)
        assert made.sharding.is_equivalent_to(said.sharding, made.ndim)


def test_first_weights_do_not_depend_on_how_they_were_compiled():
    """Compiled quickly and unoptimised, they are what JAX gives by itself."""
    algorithm = supervised(named('resnet8', classes=3, image_shape=(2, 2, 1)), hard_labels(), ADAM)
    batch = dataset()['train'].take(np.arange(4))
    quickly = Program(algorithm).init(jax.random.key(5), {}, batch)
    plainly = jax.jit(algorithm.init)(jax.random.key(5), {}, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), quickly, plainly)
