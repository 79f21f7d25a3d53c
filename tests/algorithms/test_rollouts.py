"""Rollouts: who writes what, what counts in it, and what a batch that is not rolled out stays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_texts import (
    FROZEN,
    PROMPT,
    ROOM,
    START,
    STUDENT,
    TAUGHT,
    TEACHER,
    WORDS,
    language_model,
    learns,
    log_probs,
    lookup,
    prepare,
    stored,
)

from kdjax import losses
from kdjax.algorithms import Player, play
from kdjax.algorithms.algorithm import Execution, executed
from kdjax.algorithms.rollouts import Rollout, replayed, unrolled, with_data
from kdjax.algorithms.stored_texts import stored_texts, write
from kdjax.algorithms.writing import before_response, first_tokens, written
from kdjax.data.dataset import ArraySource
from kdjax.data.text_batch import prepare_text
from kdjax.errors import UserError
from kdjax.objectives import hard_labels, term
from kdjax.streams import stream

KEY = jax.random.key(0)
BY_STUDENT = written({'student': STUDENT}, first_tokens(PROMPT))
KL = term(losses.kl_reverse, 'student', 'teacher')


def _anything(memory, batch, lookup, *, step, key):
    shape = batch['label'].shape
    new = {'label': jax.random.randint(key, shape, 0, WORDS), 'behaviour': jax.random.normal(key, shape)}
    return unrolled(batch) | new | {'drawn': jnp.ones(shape, bool)}, memory


QUICK = Rollout(_anything)
"""Random labels: what does not depend on who writes is tested with it."""


def rolled(rollout, columns, *, key=KEY, step=0, look=lookup):
    return _rolled(rollout, look, prepare_text(columns), jnp.int32(step), key)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _rolled(rollout, look, batch, step, key):
    return rollout.apply(rollout.init(unrolled(batch)), batch, look, step=step, key=key)[0]


@functools.cache
def compiled(algorithm):
    return jax.jit(algorithm.step)


def steps(algorithm, count=2, columns=None, frozen=FROZEN):
    columns = stored() if columns is None else columns
    state = algorithm.init(KEY, frozen, columns)
    for _ in range(count):
        state, metrics = compiled(algorithm)(state, frozen, columns, KEY)
    return state, metrics


SUPERVISED, ON_POLICY = learns(hard_labels() + KL), learns(hard_labels(), rollout=BY_STUDENT)


def rows_of(columns):
    return [(*label, *log) for label, log in zip(columns['label'].tolist(), columns['behaviour'].tolist(), strict=True)]


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


class TestWritten:
    def test_prompts_stay_and_drawn_labels_count(self):
        columns = stored()
        batch = rolled(BY_STUDENT, columns)
        np.testing.assert_array_equal(batch['tokens'][:, :PROMPT], columns['tokens'][:, :PROMPT])
        np.testing.assert_array_equal(batch['label'][:, :-1], batch['tokens'][:, 1:])
        np.testing.assert_array_equal(batch['where'], [[False] + [True] * (ROOM - 1)] * 4)
        np.testing.assert_array_equal(batch['drawn'], batch['where'])
        np.testing.assert_array_equal(batch['position'], [[0, 1, 2, 3]] * 4)
        assert {n: (x.shape, x.dtype) for n, x in unrolled(prepare_text(columns)).items()} == {
            n: (x.shape, x.dtype) for n, x in batch.items()
        }

    @pytest.mark.parametrize(
        ('positions', 'prompts', 'given'),
        [('rope', first_tokens(5), [5, 1, 5, 5]), ('learned', before_response(6), [3, 2, 5, 6])],
        ids=['first tokens', 'before response'],
    )
    def test_behaviour_is_what_a_training_pass_says(self, positions, prompts, given):
        """Of packed rows and of instructions: documents, padding and positions are those that were generated with."""
        model, variables = language_model(2, positions, context=10)
        documents = [[1] * 6 + [2] * 4, [1] * 4 + [2] * 4 + [3] * 2, [1] * 10, [1] * 10]
        counted = np.zeros((4, 10), bool)
        counted[0, 3:6] = counted[1, 2:4] = counted[2, 5:] = counted[3, 7:] = True
        columns = stored(4, room=9, segment=np.array(documents, np.int32), counted=counted)
        batch = rolled(written({'student': model}, prompts), columns, look=lambda name: variables)
        read, drawn = (np.count_nonzero(batch[name], axis=1) for name in ('segment', 'where'))
        np.testing.assert_array_equal(read - drawn + 1, given)
        want = jnp.where(batch['where'], log_probs(model, variables, batch), 0.0)
        np.testing.assert_allclose(batch['behaviour'], want, atol=2e-5)
        assert np.min(batch['behaviour']) < -0.5

    def test_a_mixture_remembers_what_it_drew_from(self):
        """alpha p + (1 - alpha) s, alpha by schedule."""
        both = {'student': STUDENT, 'teacher': TEACHER}
        schedule = (lambda step: 1 - step / 10, lambda step: step / 10)
        batch = rolled(written(both, first_tokens(PROMPT), weights=schedule), stored(64), step=2)
        log_s, log_p = log_probs(STUDENT, START, batch), log_probs(TEACHER, TAUGHT, batch)
        want = jnp.where(batch['where'], losses.log_mixture(log_s, log_p, alpha=0.2), 0.0)
        np.testing.assert_allclose(batch['behaviour'], want, atol=2e-5)

    def test_a_row_does_not_depend_on_the_others(self):
        columns = stored()
        others = {n: x.at[1:].set(stored(seed=9)[n][1:]) for n, x in columns.items()}
        a, b = (rolled(BY_STUDENT, each) for each in (columns, others))
        assert np.any(a['tokens'][1:] != b['tokens'][1:])
        jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[0], y[0]), a, b)

    def test_after_a_stop_token_nothing_counts(self):
        batch = rolled(written({'student': STUDENT}, first_tokens(PROMPT), stop=(0,)), stored(64))
        label, drawn = np.asarray(batch['label']), np.asarray(batch['where'])
        assert drawn[:, PROMPT - 1].all()
        for t in range(PROMPT, ROOM):
            np.testing.assert_array_equal(drawn[:, t], drawn[:, t - 1] & (label[:, t - 1] != 0))
            np.testing.assert_array_equal(batch['segment'][:, t] > 0, drawn[:, t - 1])
        assert (batch['behaviour'][~drawn] == 0).all()
        assert 0 < drawn[:, -1].sum() < 64

    def test_rows_that_only_fill_up_a_batch_do_not_count(self):
        columns = stored() | {'where': jnp.array([True, True, False, False])}
        assert np.any(rolled(BY_STUDENT, columns)['where'], axis=1).tolist() == [True, True, False, False]

    def test_columns_of_the_data_s_own_text_are_left_out(self):
        columns = stored() | {'teacher_ids': jnp.zeros((4, ROOM, 2), jnp.int32)}
        assert 'teacher_ids' not in rolled(BY_STUDENT, columns)
        algorithm = learns(term(lambda x: x, 'batch.teacher_ids', name='read'), rollout=BY_STUDENT)
        with pytest.raises(UserError, match="unknown field of the batch 'teacher_ids'"):
            steps(algorithm, 1, columns)


class TestWithData:
    @pytest.mark.parametrize(('per', 'rollout'), [('batch', BY_STUDENT), ('example', QUICK)])
    def test_a_share_of_nothing_is_supervised_learning_to_the_bit(self, per, rollout):
        plain, said = steps(SUPERVISED)
        mixed, told = steps(learns(hard_labels() + KL, rollout=with_data(rollout, share=0.0, per=per)))
        same((mixed['variables'], mixed['optimizer'], told), (plain['variables'], plain['optimizer'], said))

    @pytest.mark.parametrize('per', ['batch', 'example'])
    def test_a_share_of_all_is_the_rollout(self, per):
        mixed = rolled(with_data(QUICK, share=lambda step: step / 3, per=per), stored(), step=3)
        same(mixed, rolled(QUICK, stored()))

    def test_the_share_is_that_of_examples_or_of_batches(self):
        columns = stored(400)
        each = rolled(with_data(QUICK, share=0.3, per='example'), columns)
        assert abs(jnp.mean(each['drawn'][:, -1]) - 0.3) < 3 * (0.21 / 400) ** 0.5
        data = prepare_text(columns)
        for name in ('tokens', 'label', 'where', 'segment', 'position'):
            np.testing.assert_array_equal(each[name][~each['drawn'][:, -1]], data[name][~each['drawn'][:, -1]])
        half, batch = with_data(QUICK, share=0.3), prepare_text(stored())
        draws = jax.jit(jax.vmap(lambda key: half.apply({}, batch, lookup, step=0, key=key)[0]['drawn'][:, -1]))
        drawn = draws(jax.random.split(KEY, 400))
        assert (drawn.all(axis=1) | ~drawn.any(axis=1)).all()
        assert abs(jnp.mean(drawn) - 0.3) < 3 * (0.21 / 400) ** 0.5


class TestReplayed:
    def test_what_was_written_is_read_again(self):
        """A memory of two batches and a half; then nothing new is written."""
        rollout = replayed(QUICK, capacity=10, fresh=0.0)
        batch = prepare_text(stored())
        memory, seen = rollout.init(unrolled(batch)), []
        step = jax.jit(lambda memory, key: rollout.apply(memory, batch, lookup, step=0, key=key))
        for key in jax.random.split(KEY, 5):
            before = memory
            said, memory = step(memory, key)
            seen.append(said)
        written_rows = np.concatenate([each['label'] for each in seen[:3]])
        np.testing.assert_array_equal(memory['rows']['label'], written_rows[[10, 11, *range(2, 10)]])
        assert (memory['filled'], memory['next']) == (10, 2)
        same(memory, before)
        kept = rows_of(memory['rows'])
        assert len(set(kept)) == 10
        for each in seen[3:]:
            assert len(set(rows_of(each)) & set(kept)) == 4, 'drawn without replacement'

    def test_new_ones_by_schedule(self):
        rollout = replayed(QUICK, capacity=4, fresh=lambda step: 1 - step / 4)
        batch = prepare_text(stored())
        full = rollout.init(unrolled(batch)) | {'filled': jnp.int32(4)}

        def writes(step, key):
            return jnp.any(rollout.apply(full, batch, lookup, step=step, key=key)[1]['rows']['drawn'])

        keys = jax.random.split(KEY, 200)
        many = jax.jit(jax.vmap(writes, (None, 0)))
        share = [float(jnp.mean(many(jnp.int32(step), keys))) for step in (0, 1, 4)]
        assert share[0] == 1
        assert abs(share[1] - 0.75) < 3 * (0.1875 / 200) ** 0.5
        assert share[2] == 0

    def test_in_the_state_of_a_training(self):
        rollout = with_data(replayed(QUICK, capacity=8, fresh=0.5), share=0.9)
        state, _ = steps(learns(KL, rollout=rollout), 4)
        assert state['memory']['rollout']['filled'] == 8
        assert state['memory']['teacher'] == {}


class TestInAStep:
    def test_what_is_written_is_learned_from(self):
        _, metrics = steps(ON_POLICY, 1)
        batch = rolled(BY_STUDENT, stored(), key=stream(KEY, 'rollout', 0))
        nll = -jnp.sum(batch['behaviour']) / jnp.sum(batch['where'], dtype=jnp.float32)
        np.testing.assert_allclose(metrics['student/hard_labels'], nll, rtol=1e-5)

    def test_each_step_draws_anew_from_the_student_of_then(self):
        class Enough(Exception):
            pass

        def spy(memory, batch, look, *, step, key):
            raise Enough(look('student'), look('teacher'), step)

        algorithm, columns = learns(hard_labels(), rollout=Rollout(spy)), stored()
        state = algorithm.init(KEY, FROZEN, columns) | {'step': jnp.int32(7)}
        with pytest.raises(Enough) as found:
            algorithm.step(state, FROZEN, columns, KEY)
        same(found.value.args, (state['variables']['student'], TAUGHT, 7))
        keys = [rolled(BY_STUDENT, columns, key=stream(KEY, 'rollout', step))['label'] for step in (0, 1)]
        assert np.any(keys[0] != keys[1])

    def test_in_parts_it_is_the_same(self):
        algorithm = learns(hard_labels(), rollout=with_data(QUICK, share=0.5, per='example'))
        whole, said = steps(algorithm)
        parts, told = steps(executed(algorithm, Execution(accumulate=2)))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), (parts, told), (whole, said))

    def test_in_half_precision_writers_are_too(self):
        told = []
        spy = Rollout(QUICK.apply, in_dtype=lambda of: told.append((of('student'), of('teacher'))) or QUICK)
        around = with_data(replayed(spy, capacity=4, fresh=0.5), share=0.5)
        executed(learns(hard_labels(), rollout=around), Execution(dtype='bfloat16'))
        assert told[-1] == ('bfloat16', 'float32')
        batch = rolled(BY_STUDENT.in_dtype(lambda name: 'bfloat16'), stored())
        off = np.abs(batch['behaviour'] - jnp.where(batch['where'], log_probs(STUDENT, START, batch), 0))
        assert 1e-4 < np.max(off) < 0.5

    def test_evaluation_reads_the_data_unless_asked(self):
        def said(view):
            return {'tokens': view['batch.tokens']}

        columns = stored()
        state = SUPERVISED.init(KEY, FROZEN, columns)
        plain = learns(KL, rollout=BY_STUDENT, evaluates=said).evaluate(state, FROZEN, columns, KEY)
        np.testing.assert_array_equal(plain['tokens'], columns['tokens'][:, :-1])
        asked = jax.jit(learns(KL, evaluates=said, evaluated_on=BY_STUDENT).evaluate)
        one, other = (asked(state, FROZEN, columns | {'index': i + columns['index']}, KEY)['tokens'] for i in (0, 4))
        np.testing.assert_array_equal(one[:, :PROMPT], columns['tokens'][:, :PROMPT])
        assert np.any(one != other), 'batches of a split draw differently'


class TestStoredTexts:
    def test_texts_of_a_teacher_as_a_data_set(self):
        source = ArraySource({n: np.asarray(x) for n, x in stored(7).items() if n != 'index'})
        by_teacher = written({'teacher': TEACHER}, first_tokens(PROMPT), stop=(0,))
        texts = write(source, prepare, by_teacher, FROZEN, key=KEY, batch=4)
        assert {n: (x.shape, x.dtype.name) for n, x in texts.items()} == {
            'tokens': ((7, 5), 'int32'), 'segment': ((7, 5), 'int32'), 'counted': ((7, 5), 'bool'),
            'behaviour': ((7, 4), 'float32'),
        }  # fmt: skip
        batch = prepare_text({n: jnp.asarray(x) for n, x in texts.items()})
        want = jnp.where(batch['where'], log_probs(TEACHER, TAUGHT, batch), 0.0)
        np.testing.assert_allclose(batch['behaviour'], want, atol=2e-5)
        assert batch['where'][:, PROMPT - 1].all() and not batch['where'].all()
        index = jnp.array([6, 0, 3, 3])
        asked = {n: jnp.asarray(x) for n, x in source.take(np.asarray(index)).items()}
        found = rolled(stored_texts(), asked, look={'texts': texts}.__getitem__)
        for name in ('tokens', 'label', 'where', 'segment', 'position', 'behaviour'):
            np.testing.assert_array_equal(found[name], batch[name][index], err_msg=name)
        np.testing.assert_array_equal(found['drawn'], found['where'])

    def test_texts_of_other_rows_are_refused(self):
        texts = {'behaviour': np.zeros((4, 9), np.float32)}
        with pytest.raises(UserError, match="'texts' has rows of 9 inputs, the batch of 4: write the texts"):
            rolled(stored_texts(), stored(), look={'texts': texts}.__getitem__)


REFUSED = {
    'share': (lambda: with_data(BY_STUDENT, share=1.5), 'share=1.5: a probability, from 0 to 1'),
    'fresh': (lambda: replayed(BY_STUDENT, capacity=4, fresh=-1.0), 'fresh=-1.0: a probability'),
    'per': (lambda: with_data(BY_STUDENT, share=0.5, per='row'), "unknown per 'row'; known: batch, example"),
    'memory': (
        lambda: rolled(replayed(BY_STUDENT, capacity=3, fresh=0.5), stored()),
        'capacity=3 is less than the batch of 4: keep at least one batch',
    ),
    'no text': (lambda: unrolled({'image': jnp.zeros(3)}), "unknown field of a batch that is rolled out 'tokens'"),
    'no room': (
        lambda: rolled(written({'student': STUDENT}, first_tokens(ROOM + 1)), stored()),
        'prompts of 5 tokens out of rows of 4: they have to fit',
    ),
    'weights': (
        lambda: written({'student': STUDENT, 'teacher': TEACHER}, first_tokens(PROMPT)),
        '2 writers, 1 weights: give a weight for each writer',
    ),
    'a writer': (
        lambda: steps(learns(KL, rollout=written({'tutor': TEACHER}, first_tokens(PROMPT))), 1),
        "unknown player or frozen input that writes 'tutor'; did you mean 'student'",
    ),
    'a name': (
        lambda: play({'rollout': Player(STUDENT.model, hard_labels('rollout'), optax.sgd(0.1))}, rollout=QUICK),
        "'rollout' cannot name a player",
    ),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refused(case):
    attempt, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        attempt()
