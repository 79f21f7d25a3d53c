"""Objectives add, scale, and reduce every term as (sum, count)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import linear_like

from kdjax import losses
from kdjax.errors import UserError
from kdjax.models.model import Outputs
from kdjax.objectives import Objective, Part, Reduced, hard_labels, hint, kl, learned, term, total
from kdjax.view import View

RNG = np.random.default_rng(0)
STUDENT = RNG.normal(size=(5, 3)).astype(np.float32)
TEACHER = RNG.normal(size=(5, 3)).astype(np.float32)
LABEL = np.array([0, 2, 1, 1, 0], np.int32)
WHERE = np.array([True, False, True, True, False])


def view(student=STUDENT, teacher=TEACHER, label=LABEL, step=0, **fields) -> View:
    nodes = {
        'student': lambda v: Outputs(jnp.asarray(student), {'hidden': jnp.ones((5, 2))}),
        'teacher': lambda v: Outputs(jnp.asarray(teacher), {'hidden': jnp.ones((5, 4))}),
    }
    batch = {name: jnp.asarray(field) for name, field in {'label': label, **fields}.items()}
    return View(nodes, batch, step)


def value(objective: Objective, **given) -> float:
    return float(total(objective(view(**given))))


def squares(student):
    """A loss that knows nothing of masks."""
    return jnp.sum(student**2, axis=-1)


def test_terms_are_sums_and_counts():
    reduced = hard_labels()(view())['hard_labels']
    expected = losses.cross_entropy(jnp.asarray(STUDENT), jnp.asarray(LABEL))
    np.testing.assert_allclose(reduced.sum, expected.sum(), rtol=1e-6)
    assert reduced.count == 5
    np.testing.assert_allclose(reduced.mean, expected.mean(), rtol=1e-6)


def test_objectives_add_and_scale():
    both = hard_labels() + 9.0 * kl(temperature=4.0)
    expected = value(hard_labels()) + 9.0 * value(kl(temperature=4.0))
    assert value(both) == pytest.approx(expected, rel=1e-6)
    assert value(0.5 * (2.0 * both)) == pytest.approx(expected, rel=1e-6)
    assert value(both * 3.0) == pytest.approx(3 * expected, rel=1e-6)
    assert [t.name for t in both.terms] == ['hard_labels', 'kl']


def test_kl_is_t_squared_times_the_divergence():
    expected = 16 * losses.kl_forward(jnp.asarray(STUDENT), jnp.asarray(TEACHER), temperature=4.0).mean()
    assert value(kl(temperature=4.0)) == pytest.approx(float(expected), rel=1e-5)


def test_weights_do_not_change_what_is_logged():
    assert (10.0 * hard_labels())(view())['hard_labels'].mean == hard_labels()(view())['hard_labels'].mean


def test_a_schedule_is_a_weight():
    ramp = optax.linear_schedule(0.0, 1.0, 10)
    plain = value(hard_labels())
    assert value(ramp * hard_labels(), step=np.int32(0)) == 0
    assert value(ramp * hard_labels(), step=np.int32(5)) == pytest.approx(0.5 * plain, rel=1e-6)
    assert value(2.0 * (ramp * hard_labels()), step=np.int32(5)) == pytest.approx(plain, rel=1e-6)


def test_two_schedules_multiply():
    ramp = optax.linear_schedule(0.0, 1.0, 10)
    assert value(ramp * (ramp * hard_labels()), step=np.int32(5)) == pytest.approx(
        0.25 * value(hard_labels()), rel=1e-6
    )


def test_a_name_clash_is_refused_with_the_remedy():
    with pytest.raises(
        UserError, match=r"two terms of one objective are called 'kl': give one of them name='\.\.\.'"
    ):
        kl() + kl('student', 'peer')
    assert len((kl() + kl('student', 'peer', name='kl_peer')).terms) == 2


def test_two_parts_of_one_name_are_refused_and_a_shared_part_is_kept_once():
    part = Part('head', linear_like, ('student',), like=('teacher',))
    shared = learned(part) + term(losses.mse_logits, 'head', 'teacher', name='a')
    assert (shared + learned(part)).parts == (part,)
    with pytest.raises(UserError, match="two parts of one objective are called 'head'"):
        shared + learned(Part('head', linear_like, ('teacher',), like=('teacher',)))


@pytest.mark.parametrize('objective', [hard_labels(), kl(temperature=2.0), term(squares, 'student')])
def test_a_mask_equals_indexing(objective):
    name = objective.terms[0].name
    masked = objective(view(where=WHERE))[name]
    indexed = objective(view(STUDENT[WHERE], TEACHER[WHERE], LABEL[WHERE]))[name]
    np.testing.assert_allclose(masked.sum, indexed.sum, rtol=1e-6)
    assert masked.count == indexed.count == 3


def test_a_named_mask_goes_before_the_batch_s_own():
    mask = np.array([True, False, False, False, False])
    reduced = term(losses.cross_entropy, 'student', 'batch.label', where='batch.first')(
        view(where=WHERE, first=mask)
    )
    assert reduced['cross_entropy'].count == 1


def test_a_mask_covers_the_trailing_axes():
    per_token = term(lambda student: student, 'student', name='identity')
    reduced = per_token(view(where=WHERE))['identity']
    assert reduced.count == 9
    np.testing.assert_allclose(reduced.sum, STUDENT[WHERE].sum(), rtol=1e-6)


def test_nothing_counts_gives_zero_and_not_nan():
    assert value(hard_labels() + kl(), where=np.zeros(5, bool)) == 0


def test_masked_garbage_reaches_neither_value_nor_gradient():
    garbage = np.where(WHERE[:, None], STUDENT, np.nan)
    objective = hard_labels() + 4.0 * kl(temperature=2.0)

    def loss(student):
        return total(objective(view(student, where=WHERE)))

    clean_value, clean = jax.value_and_grad(loss)(STUDENT)
    found_value, found = jax.value_and_grad(loss)(garbage)
    np.testing.assert_array_equal(found_value, clean_value)
    np.testing.assert_array_equal(found, clean)
    assert not found[~WHERE].any()


def test_where_goes_only_to_losses_that_take_it():
    seen = {}

    def with_where(student, *, where=None):
        seen['where'] = where
        return jnp.sum(student, axis=-1)

    term(with_where, 'student')(view(where=WHERE))
    np.testing.assert_array_equal(seen['where'], WHERE)
    term(with_where, 'student')(view())
    assert seen['where'] is None
    assert term(squares, 'student')(view(where=WHERE))['squares'].count == 3


def test_a_scalar_is_refused():
    with pytest.raises(
        UserError, match="term 'mean' returned a scalar: a loss returns one value per example"
    ):
        term(lambda student: jnp.mean(student), 'student', name='mean')(view())


def test_different_classes_name_the_term_and_both_counts():
    with pytest.raises(UserError) as error:
        kl()(view(teacher=RNG.normal(size=(5, 4)).astype(np.float32)))
    assert str(error.value).startswith("term 'kl' (student, teacher): teacher has 4 classes, student 3")


def test_options_reach_the_loss():
    smooth = hard_labels(smoothing=0.1)(view())['hard_labels'].mean
    np.testing.assert_allclose(
        smooth,
        losses.cross_entropy(jnp.asarray(STUDENT), jnp.asarray(LABEL), smoothing=0.1).mean(),
        rtol=1e-6,
    )


def test_a_loss_without_a_name_of_its_own_gets_one():
    doubled = functools.partial(losses.cross_entropy, smoothing=0.1)
    assert term(doubled, 'student', 'batch.label').terms[0].name == 'cross_entropy'
    assert term(lambda s: s, 'student').terms[0].name == 'lambda'


def test_total_is_the_weighted_sum_of_means():
    reduced = {'a': Reduced(*map(jnp.float32, (6, 3, 0.5))), 'b': Reduced(*map(jnp.float32, (8, 2, 0.25)))}
    assert total(reduced) == 2.0


def test_a_hint_brings_its_projector_along():
    objective = hint('student.hidden', 'teacher.hidden', projector=linear_like)
    (part,) = objective.parts
    assert (part.name, part.reads, part.like) == ('hint_projector', ('student.hidden',), ('teacher.hidden',))
    seen = view()
    model = part.build(seen['student.hidden'], seen['teacher.hidden'])
    variables = model.init(jax.random.key(0), seen['student.hidden'])
    assert variables['params']['w'].shape == (2, 4)


def test_addresses_are_all_that_terms_and_parts_read():
    objective = hard_labels() + hint('student.hidden', 'teacher.hidden', projector=linear_like)
    assert set(objective.addresses) == {
        'student',
        'batch.label',
        'hint_projector',
        'teacher.hidden',
        'student.hidden',
    }


def test_an_objective_of_no_terms_is_refused_when_it_is_minimised():
    with pytest.raises(UserError, match='no terms'):
        value(learned(Part('head', linear_like, ('student',), like=('teacher',))))
