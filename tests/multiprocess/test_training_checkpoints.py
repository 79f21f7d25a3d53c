"""Checkpoints that several processes write together: resumed on one and back, damaged, and saves that fail."""

import shutil
import signal

import numpy as np
import pytest
from commands import LOG_EVERY, SAVE_EVERY, STEPS, Struck, committed, events, losses, result, said

pytestmark = pytest.mark.slow


def apart(out, other, first: int, steps: int) -> float:
    """The largest relative difference between the losses of two runs, in so many steps from the first."""
    span = slice(first // LOG_EVERY, (first + steps) // LOG_EVERY)
    return float(np.abs(losses(out)[span] / losses(other)[span] - 1).max())


def test_saved_on_two_processes_resumed_on_one_and_back(place, whole, tmp_path, capsys):
    """The measure is the run that does not change over, for 20 steps: more amplify the rounding. One teacher for all,
    though one process would have trained it to other last digits."""
    out, stays, began = tmp_path / 'run', tmp_path / 'stays', []
    for ranks in (2, 1):
        now = Struck(place, out, 0, signal.SIGTERM, ranks=ranks)
        assert now.codes == [75] * ranks, now.ended
        began.append(now.committed[-1])
    shutil.copytree(out, stays)
    for folder, ranks in ((stays, 1), (out, 2)):
        ended = place.run(folder, ranks=ranks)
        assert [rank.code for rank in ended] == [0] * ranks, ended
        assert [said(rank, 'resumed') for rank in ended] == [[str(began[1])]] * ranks
    assert 0 < began[0] < began[1] <= STEPS - 20
    device, layout = events(out, 'changed')
    assert device == "device: '2 x cpu (cpu)' there, '1 x cpu (cpu)' now" and layout.startswith('layout: ')
    assert events(out, 'warning') == [], 'the teacher is the one that the run began with'
    undisturbed = place.root / 'whole'
    assert apart(out, undisturbed, 0, began[0]) == 0
    to_one, to_two = apart(out, undisturbed, began[0], 20), apart(out, stays, began[1], 20)
    assert to_one < 1e-5 and to_two < 1e-5
    with capsys.disabled():
        print(f'\nfrom 2 processes to 1 at step {began[0]}, and back at {began[1]}: 20 steps differ by', end='')
        print(f' {to_one:.1e} and {to_two:.1e}, by {apart(out, undisturbed, 0, STEPS):.1e} at the end')


def test_all_ranks_fall_back_from_a_damaged_checkpoint_to_the_same_step(place, whole, tmp_path):
    out = tmp_path / 'run'
    shutil.copytree(place.root / 'whole', out)
    newest = out / 'checkpoints' / str(STEPS)
    largest = max((path for path in newest.rglob('*') if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    ended = place.run(out)
    assert [rank.code for rank in ended] == [0, 0], ended
    assert [said(rank, 'resumed') for rank in ended] == [[str(STEPS - SAVE_EVERY)]] * 2
    (warning,) = events(out, 'warning')
    assert f'checkpoint of step {STEPS} is damaged: ' in warning and largest.name in warning
    assert result(out) == whole


@pytest.mark.parametrize('background', ['--save-in-background', '--no-save-in-background'])
def test_saves_that_fail_on_one_rank_are_told_and_nobody_waits(background, place, whole, tmp_path, capsys):
    out = tmp_path / 'run'
    faults = {'prepare 0': 40, 'write 0': 80, 'write 1': 120, 'commit 0': 160}
    ended = place.run(out, background, '--keep', '99', faults=faults)
    assert [rank.code for rank in ended] == [0, 0], ended
    assert result(out) == whole
    assert committed(out) == [step for step in range(SAVE_EVERY, STEPS + 1, SAVE_EVERY) if step not in faults.values()]
    warnings = events(out, 'warning')
    assert len(warnings) == len(faults)
    for step, warning in zip(faults.values(), warnings, strict=True):
        assert warning.startswith(f'step {step} was not saved (OSError: ') and 'No space left on device' in warning
        assert f'the latest stays step {step - SAVE_EVERY}. The next save is tried as planned' in warning
    assert 'rank 1 could not write: [Errno 28] No space left on device' in warnings[2]
    with capsys.disabled():
        print(f'\n4 of {STEPS // SAVE_EVERY} saves failed, {background}: nobody waits, {ended[0].seconds:.0f} s in all')


def test_a_run_whose_teacher_is_gone_is_told_that_it_is_made_again(place, whole, tmp_path):
    out, store = tmp_path / 'run', tmp_path / 'store'
    shutil.copytree(place.root / 'whole', out)
    shutil.rmtree(out / 'checkpoints' / str(STEPS))
    ended = place.run(out, environ={'KDJAX_STORE': str(store)})
    assert [rank.code for rank in ended] == [0, 0], ended
    assert events(out, 'warning') == [f'what the run began with is not in the store {store}: it is made again, here']
    assert result(out) == whole, 'on the same machine it is the same to the bit'
