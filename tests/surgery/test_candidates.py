"""Many networks as one model, and which of them is chosen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from kdjax import surgery
from kdjax.errors import UserError
from kdjax.models.named import named

KEY = jax.random.key(0)
SHAPE = (2, 3, 1)
MODEL = named('mlp-7-5', classes=4, image_shape=SHAPE, norm='none')
IMAGES = jax.random.normal(jax.random.key(1), (6, *SHAPE))
GRID = ((2, 1), (4, 3), (7, 5))
SCALES = jnp.array([0.2, 0.5, 0.8])


def said(model, variables):
    return model.apply(variables, IMAGES, key=KEY, train=True)


def test_a_nested_model_answers_as_each_of_its_prefixes():
    nested = surgery.nested(MODEL, GRID)
    variables = nested.init(KEY, IMAGES)
    outputs, after = said(nested, variables)
    assert after is variables
    assert outputs.prediction.shape == (6, 3, 4)
    for i, kept in enumerate(GRID):
        one, _ = said(MODEL, surgery.mask_prefix(variables, kept))
        np.testing.assert_allclose(outputs.prediction[:, i], one.prediction, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(outputs.taps['hidden2'][:, i], one.taps['hidden2'], rtol=1e-4, atol=1e-5)


def test_a_candidate_gives_no_gradient_to_what_it_lacks():
    nested = surgery.nested(MODEL, GRID[:2])
    variables = nested.init(KEY, IMAGES)
    slopes = jax.grad(lambda v: jnp.sum(jnp.square(said(nested, v)[0].prediction)))(variables)
    kernel = slopes['params']['hidden']['0']['kernel']
    assert not kernel[:, 4:].any()
    assert kernel[:, :2].any()


def test_copies_are_independent_networks():
    copies = surgery.copies(MODEL, 3)
    variables = copies.init(KEY, IMAGES)
    outputs, after = said(copies, variables)
    assert outputs.prediction.shape == (6, 3, 4)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, variables)
    for i in range(3):
        own = jax.tree.map(lambda leaf, i=i: leaf[i], variables)
        alone = said(MODEL, own)[0].prediction
        np.testing.assert_allclose(outputs.prediction[:, i], alone, rtol=1e-4, atol=1e-5)
    assert not np.allclose(outputs.prediction[:, 0], outputs.prediction[:, 1])


def test_accuracies_by_hand():
    logits = jax.nn.one_hot(jnp.array([[0, 1], [1, 1], [2, 1], [0, 0]]), 3)
    np.testing.assert_allclose(surgery.accuracies(logits, jnp.array([0, 1, 2, 1])), [0.75, 0.25])


def test_the_derivative_score_by_hand():
    """Losses of 0.08, 0.02, 0.01 for 0.8, 0.5, 0.2 of the width: slopes of 0.1, 0.04 and 0.05."""
    found = surgery.npsd(jnp.array([0.82, 0.88, 0.89]), SCALES, jnp.float32(0.9))
    np.testing.assert_allclose(found, [-0.1, -0.04, -0.05], rtol=1e-4)


def test_the_tradeoff_score_by_hand():
    found = surgery.tradeoff(jnp.array([0.80, 0.88, 0.89]), SCALES)
    np.testing.assert_allclose(found, [0.96, 0.98, 0.93], rtol=1e-5)
    assert jnp.argmax(surgery.tradeoff(jnp.array([0.80, 0.88, 0.89]), SCALES, weight=1.0)) == 0


@pytest.mark.parametrize('best', [0, 1, 2])
def test_the_candidate_with_the_highest_score_is_chosen(best):
    variables = MODEL.init(KEY, IMAGES)
    scores = jnp.zeros(3).at[best].set(1.0)
    chosen = jax.jit(lambda s, v: surgery.choose(s, v, kept=GRID, scales=(0.2, 0.5, 0.8)))(scores, variables)
    assert chosen['scale'] == SCALES[best]
    expected = surgery.mask_prefix(variables, GRID[best])
    same = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), chosen['variables'], expected)
    assert jax.tree.all(same)


def test_every_candidate_needs_a_score():
    with pytest.raises(UserError, match='3 candidates at 3 scales with 2 scores'):
        surgery.choose(jnp.zeros(2), MODEL.init(KEY, IMAGES), kept=GRID, scales=(0.2, 0.5, 0.8))


def test_scores_and_trials_from_predictions():
    """Four examples of class 0; networks that get 2, 3 and 3 of them right, a teacher that gets all."""
    answers = jnp.array([[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 1, 1]])
    said = {'student': jax.nn.one_hot(answers, 2), 'label': jnp.zeros(4, jnp.int32)}
    teacher = jax.nn.one_hot(said['label'], 2)
    found = surgery.scores(said, teacher, scales=(0.2, 0.5, 0.8), weight=0.1)
    np.testing.assert_allclose(found['npsd'], [-0.5 / 0.8, -0.25 / 0.5, -0.25 / 0.2], rtol=1e-5)
    np.testing.assert_allclose(found['tradeoff'], [0.58, 0.8, 0.77], rtol=1e-5)
    judged = surgery.trials({'test': said}, good=jnp.array([1.0, 2.0, 2.0]), bad=jnp.array([2.0, 1.0, 1.0]))
    np.testing.assert_allclose(judged['accuracy']['test'], [0.5, 0.75, 0.75])
    np.testing.assert_allclose([judged['good']['test'], judged['bad']['test']], [1, -1], rtol=1e-6)


@pytest.mark.parametrize(
    ('first', 'second'),
    [
        ([1, 2, 3, 4], [2, 4, 6, 9]),
        ([1, 2, 3, 4], [1, 1, 0, 0]),
        ([3, 1, 2, 2, 5], [0.1, 0.4, 0.4, 0.2, 0.2]),
    ],
)
def test_rank_correlation_is_spearmans(first, second):
    ours = surgery.rank_correlation(jnp.array(first, jnp.float32), jnp.array(second, jnp.float32))
    np.testing.assert_allclose(ours, scipy.stats.spearmanr(first, second).statistic, atol=1e-6)


def test_rank_correlation_with_a_constant_is_zero():
    assert surgery.rank_correlation(jnp.ones(3), SCALES) == 0
