"""A gradient in parts is the gradient of the whole batch; how a step is executed does not change what it is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import batch, mlp, with_statistics

from kdjax import teachers
from kdjax.algorithms import supervised
from kdjax.algorithms.algorithm import PLAIN, Algorithm, Execution, executed
from kdjax.errors import UserError
from kdjax.models.named import named
from kdjax.objectives import hard_labels, kl, term

KEY = jax.random.key(0)
SGD = optax.sgd(1.0)


def brightness(student, image, *, where=None):
    """A loss of two values for each example, some of which the mask `[batch, 2]` leaves out."""
    return student[:, :2] ** 2 * jnp.mean(image, (1, 2, 3))[:, None]


def masked(size: int = 12) -> dict[str, jax.Array]:
    """A batch in which parts of every size hold different numbers of counted entries."""
    rng = np.random.default_rng(0)
    where = rng.uniform(size=size) < 0.6
    pairs = rng.uniform(size=(size, 2)) < 0.4
    return jax.tree.map(jnp.asarray, batch(size) | {'where': where, 'pairs': pairs})


def two_masks(**given) -> Algorithm:
    objective = hard_labels() + 3.0 * kl(temperature=2.0) + 2.0 * term(
        brightness, 'student', 'batch.image', where='batch.pairs'
    )  # fmt: skip
    taught = {'teacher': teachers.live(mlp(16))}
    return supervised(mlp(), objective, SGD, teachers=taught, **given)


def stepped(algorithm: Algorithm, data, frozen=None, execution: Execution = PLAIN):
    algorithm = executed(algorithm, execution)
    state = jax.jit(algorithm.init)(KEY, frozen or {}, data)
    return jax.jit(algorithm.step)(state, frozen or {}, data, KEY)


def close(a, b, tolerance=1e-6):
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=tolerance, atol=tolerance), a, b)


FROZEN = {'teacher': mlp(16).init(jax.random.key(1), batch()['image'])}


class TestAccumulation:
    @pytest.mark.parametrize('parts', [2, 3, 4])
    def test_any_masks_any_parts(self, parts):
        data = masked()
        counts = {int(data['where'][i::parts].sum()) for i in range(parts)}
        assert len(counts) > 1, 'the parts must differ in what counts'
        whole, said = stepped(two_masks(), data, FROZEN)
        found, told = stepped(two_masks(), data, FROZEN, Execution(accumulate=parts))
        close(found['variables'], whole['variables'])
        close(told, said)

    def test_a_mean_of_means_would_fail_this(self):
        """The same data, averaged part by part: what accumulation must not be."""
        data = masked()
        halves = [jax.tree.map(lambda x, i=i: x[i::2], data) for i in range(2)]
        whole = stepped(two_masks(), data, FROZEN)[1]['student/hard_labels']
        means = np.mean([stepped(two_masks(), half, FROZEN)[1]['student/hard_labels'] for half in halves])
        assert abs(whole - means) > 1e-4

    def test_statistics_pass_from_part_to_part(self):
        """Two parts are two batches to a moving average: 0.5 (0.5 m0 + 0.5 m1) + ..., and two batches are counted."""
        data = jax.tree.map(jnp.asarray, batch(6))
        algorithm = supervised(with_statistics(mlp()), hard_labels(), SGD)
        state, _ = stepped(algorithm, data, execution=Execution(accumulate=2))
        stats = state['variables']['student']['stats']
        first, second = (jnp.mean(data['image'][i::2], 0) for i in range(2))
        np.testing.assert_allclose(stats['mean'], 0.25 * first + 0.5 * second, rtol=1e-5)
        assert stats['batches'] == 2

    def test_a_bank_of_predictions_gets_every_example_in_its_place(self):
        data = jax.tree.map(jnp.asarray, batch(12))
        taught = {'teacher': teachers.past_self(examples=24, classes=3)}
        algorithm = supervised(mlp(), hard_labels() + kl(), SGD, teachers=taught)
        whole, _ = stepped(algorithm, data)
        found, _ = stepped(algorithm, data, execution=Execution(accumulate=3))
        close(found['memory'], whole['memory'])

    def test_parts_that_do_not_divide(self):
        with pytest.raises(UserError, match='accumulate=5 does not divide a batch of 12: choose a divisor'):
            stepped(two_masks(), masked(), FROZEN, Execution(accumulate=5))

    def test_counting_costs_no_forward_pass(self):
        wide = supervised(mlp(512), hard_labels(), SGD)
        data = jax.tree.map(jnp.asarray, batch(24)) | {'where': jnp.arange(24) % 3 > 0}

        def flops(execution):
            algorithm = executed(wide, execution)
            state = jax.eval_shape(algorithm.init, KEY, {}, data)
            hlo = jax.jit(algorithm.step).lower(state, {}, data, KEY).compile().as_text()
            return hlo.count(' dot(')

        assert flops(Execution(accumulate=2)) == flops(PLAIN)


def deep(**options) -> Algorithm:
    return supervised(
        named('mlp-' + '-'.join(['64'] * 12), classes=3, image_shape=(2, 2, 1), norm='none'),
        hard_labels(),
        SGD,
        **options,
    )


class TestOtherWays:
    def test_remat_changes_no_number(self):
        data = jax.tree.map(jnp.asarray, batch(12))
        close(stepped(deep(), data, execution=Execution(remat=True)), stepped(deep(), data), tolerance=1e-7)

    def test_parts_take_less_memory(self):
        data = {'image': np.zeros((4096, 2, 2, 1), np.float32), 'label': np.zeros(4096, np.int32)}

        def temporary(execution):
            algorithm = executed(deep(), execution)
            state = jax.eval_shape(algorithm.init, KEY, {}, data)
            return jax.jit(algorithm.step).lower(state, {}, data, KEY).compile().memory_analysis().temp_size_in_bytes

        assert temporary(Execution(accumulate=8)) < 0.4 * temporary(PLAIN)

    def test_half_precision_is_of_activations_alone(self):
        data = jax.tree.map(jnp.asarray, batch(12))
        teacher = named('vit-16-1', classes=3, image_shape=(2, 2, 1))
        frozen = {'teacher': teacher.init(KEY, data['image'])}
        algorithm = supervised(
            named('mlp-32-32', classes=3, image_shape=(2, 2, 1)), hard_labels() + kl(), SGD,
            teachers={'teacher': teachers.live(teacher)},
        )  # fmt: skip
        half = Execution(dtype='bfloat16', teacher_dtype='bfloat16')
        state, said = stepped(algorithm, data, frozen, half)
        assert {leaf.dtype for leaf in jax.tree.leaves(state['variables'])} == {jnp.dtype('float32')}
        assert {value.dtype for value in said.values()} == {jnp.dtype('float32')}
        plain = stepped(algorithm, data, frozen)[1]
        assert float(said['student/loss']) == pytest.approx(float(plain['student/loss']), rel=0.03)
        assert said['student/loss'] != plain['student/loss'], 'something was computed in half precision'

    def test_a_model_of_one_dtype_says_so(self):
        with pytest.raises(UserError, match="'tiny-mlp-8' has no version in bfloat16: leave the dtype at float32"):
            executed(supervised(mlp(), hard_labels(), SGD), Execution(dtype='bfloat16'))

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            ({'accumulate': 0}, 'accumulate=0: at least 1'),
            ({'dtype': 'bfloat61'}, "unknown dtype 'bfloat61'; did you mean 'bfloat16'"),
        ],
    )
    def test_options_that_cannot_be(self, options, message):
        with pytest.raises(UserError) as error:
            Execution(**options)
        assert message in str(error.value)

    def test_an_algorithm_of_one_way(self):
        alone = Algorithm(*(two_masks().init, two_masks().step, two_masks().evaluate))
        assert executed(alone, PLAIN) is alone
        with pytest.raises(UserError, match='this algorithm runs in one way only'):
            executed(alone, Execution(remat=True))
