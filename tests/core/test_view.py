"""A view computes what is read, once, and says what there is when something is not."""

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.errors import UserError
from kdjax.models.model import Outputs
from kdjax.view import View


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def view(calls) -> View:
    def node(name, value, **taps):
        def run(view):
            calls.append(name)
            return Outputs(jnp.full((2, 3), value), taps)

        return run

    nodes = {
        'student': node('student', 1.0, stage1=jnp.ones((2, 4)), stage2=jnp.ones((2, 5))),
        'teacher': node('teacher', 2.0),
        'branch': lambda view: Outputs(view['student'] + 1.0),
    }
    return View(nodes, {'label': np.array([0, 1]), 'image': np.ones((2, 1))}, step=4)


def test_addresses(view):
    assert view['student'].tolist() == [[1.0] * 3] * 2
    assert view['student.stage2'].shape == (2, 5)
    assert view['batch.label'].tolist() == [0, 1]
    assert view['branch'].tolist() == [[2.0] * 3] * 2
    assert view.step == 4


def test_a_node_runs_once_and_only_when_read(view, calls):
    assert calls == []
    view['student'], view['student.stage1'], view['branch'], view.outputs('student')
    assert calls == ['student']
    assert set(view.evaluated()) == {'student', 'branch'}


def test_an_unknown_tap_lists_those_that_exist(view):
    with pytest.raises(UserError) as error:
        view['student.stge1']
    assert (
        str(error.value) == "unknown tap of 'student' 'stge1'; did you mean 'stage1'? known: stage1, stage2"
    )


def test_a_model_without_taps_says_so(view):
    with pytest.raises(UserError, match=r"unknown tap of 'teacher' 'hidden'; known: \(none\)"):
        view['teacher.hidden']


def test_an_unknown_output_is_named_with_the_nearest(view):
    with pytest.raises(
        UserError,
        match="unknown output 'techer'; did you mean 'teacher'\\? known: batch, branch, student, teacher",
    ):
        view['techer']


@pytest.mark.parametrize('address', ['batch.labels', 'batch'])
def test_an_unknown_field_of_the_batch(view, address):
    with pytest.raises(UserError, match=r'unknown field of the batch .*known: image, label'):
        view[address]


def test_a_node_that_reads_itself_is_refused():
    alone = View({'a': lambda v: Outputs(v['a'])}, {}, 0)
    with pytest.raises(UserError, match="'a' reads its own output"):
        alone['a']
    pair = View({'a': lambda v: Outputs(v['b']), 'b': lambda v: Outputs(v['a'])}, {}, 0)
    with pytest.raises(UserError, match="'a' reads its own output, directly or through another"):
        pair['a']


def test_a_network_is_called_by_its_address():
    def doubled(view):
        return lambda inputs, key=None: Outputs(view.step * inputs)

    view = View({'student': lambda v: Outputs(1.0)}, {}, step=4, functions={'student': doubled})
    assert view['student()'](3.0).prediction == 12.0
    assert view.inputs(('student', 'student()'))[1](1.0).prediction == 4.0


def test_what_cannot_be_called_says_so(view):
    with pytest.raises(UserError, match=r"'teacher' answers about the batch alone and cannot be called on inputs"):
        view['teacher()']
    with pytest.raises(UserError, match=r"unknown function 'techer\(\)'"):
        view['techer()']
