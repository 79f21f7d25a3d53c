"""An interrupted run is the run: state, batches and rows bit for bit, whichever kind, wherever it was cut."""

import functools
import json

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from kinds import KINDS
from one_run import STEPS, elsewhere, rows_digest, train

from kdjax.run.checkpoints import Checkpoints
from kdjax.run.identity import state_digest

CUTS = (1, 7, 10, 19)
NEEDED = ('logit', 'projector', 'average of the student', 'two players', 'cached teacher')
"""The kinds that every promise is tested with; the others are tested at one cut."""


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Folder, digest and batches of the uninterrupted run of a kind, made once."""

    @functools.cache
    def of(kind):
        folder = tmp_path_factory.mktemp('whole')
        ran = train(folder, kind=kind)
        return folder, ran.digest, ran.batches

    return of


@pytest.fixture
def anew():
    """Nothing that was compiled before is read."""
    keep_compiled(False)
    yield
    keep_compiled(True)


def keep_compiled(enabled):
    jax.config.update('jax_enable_compilation_cache', enabled)
    compilation_cache.reset_cache()


def test_the_same_seed_twice_gives_the_same_bits_of_everything(tmp_path, whole, anew):
    """Parameters, optimizer, averages and rows, each by its sha256; another program, compiled anew."""
    folder, digest, batches = whole('average of the student')
    again = train(tmp_path, kind='average of the student', algorithm=KINDS['average of the student'][0]())
    assert again.digest == digest
    assert again.batches == batches
    assert rows_digest(tmp_path) == rows_digest(folder)
    parts = {'variables', 'optimizer', 'memory'}
    assert len({state_digest(again.state[part]) for part in parts}) == 3


@pytest.mark.parametrize('cut', CUTS)
@pytest.mark.parametrize('kind', KINDS)
def test_a_run_that_was_cut_goes_on_bit_for_bit(kind, cut, tmp_path, whole):
    """Rows are means over 3 steps, so that no cut but one falls on a row."""
    if kind not in NEEDED and cut != 7:
        pytest.skip('one cut is enough for this kind')
    folder, digest, batches = whole(kind)
    first = train(tmp_path, kind=kind, stop_at=cut)
    assert first.stopped
    second = train(tmp_path, kind=kind)
    assert f'going on from step {cut} of {STEPS}' in second.lines
    assert second.digest == digest
    assert first.batches + second.batches == batches
    assert rows_digest(tmp_path) == rows_digest(folder)


@pytest.mark.parametrize('cut', [7])
def test_a_new_process_goes_on_bit_for_bit(cut, tmp_path, whole):
    folder, digest, batches = whole('projector')
    check_processes(tmp_path, 'projector', cut, digest, batches, folder)


@pytest.mark.slow
@pytest.mark.parametrize('cut', CUTS)
@pytest.mark.parametrize('kind', NEEDED)
def test_new_processes_go_on_bit_for_bit(kind, cut, tmp_path, whole):
    folder, digest, batches = whole(kind)
    check_processes(tmp_path, kind, cut, digest, batches, folder)


def check_processes(tmp_path, kind, cut, digest, batches, folder):
    first = elsewhere(tmp_path, kind=kind, stop_at=cut)
    assert first['stopped']
    second = elsewhere(tmp_path, kind=kind)
    assert second['digest'] == digest
    assert first['batches'] + second['batches'] == batches
    assert rows_digest(tmp_path) == rows_digest(folder)


def test_many_cuts_in_one_run(tmp_path, whole):
    folder, digest, _ = whole('logit')
    for cut in (2, 5, 9, 13, 14, 18):
        assert train(tmp_path, stop_at=cut).stopped
    assert train(tmp_path).digest == digest
    assert rows_digest(tmp_path) == rows_digest(folder)


def test_a_finished_run_resumes_to_itself(tmp_path, whole):
    _, digest, _ = whole('logit')
    train(tmp_path)
    rows = rows_digest(tmp_path)
    again = train(tmp_path)
    assert (again.digest, again.batches, rows_digest(tmp_path)) == (digest, [], rows)


def test_an_earlier_step_can_be_asked_for_and_the_end_is_the_same(tmp_path, whole):
    folder, digest, _ = whole('logit')
    train(tmp_path, save_every=5, keep=9)
    again = train(tmp_path, resume='10', save_every=5, keep=9)
    assert 'going on from step 10 of 20' in again.lines
    assert again.digest == digest
    assert rows_digest(tmp_path) == rows_digest(folder)


def test_what_is_beyond_the_step_that_was_asked_for_goes(tmp_path, whole):
    train(tmp_path, save_every=5, keep=9)
    train(tmp_path, resume='10', stop_at=12, keep=9)
    kept = Checkpoints(tmp_path / 'checkpoints').steps()
    assert kept == [5, 10, 12]
    assert [json.loads(line)['step'] for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()] == [3, 6, 9, 12]


PARTS = {
    'logit': {'optimizer/student/0/count', 'step'},
    'projector': {'variables/hint_projector/params/w', 'optimizer/student/0/mu/hint_projector/w'},
    'average of the student': {'memory/teacher/params/a'},
    'bank of past predictions': {'memory/teacher/log_probs', 'memory/teacher/seen'},
    'critic': {'variables/judge/params/w'},
    'two players': {'variables/peer/params/a', 'variables/student/params/a'},
}


@pytest.mark.parametrize('kind', PARTS)
def test_all_that_is_learned_or_counted_is_saved_and_the_teacher_never(kind, tmp_path):
    """The live teacher is 16 wide and the student 8, so its weights are told by their shapes."""
    train(tmp_path, kind=kind, stop_at=2)
    saved = json.loads((tmp_path / 'checkpoints' / '2' / 'manifest.json').read_text())['leaves']
    assert PARTS[kind] <= set(saved)
    assert not {'float32[4,16]', 'float32[16,3]'} & set(saved.values())
