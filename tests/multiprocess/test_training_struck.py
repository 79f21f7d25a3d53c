"""A real `kdjax run` on two processes, struck: asked to stop, killed, hung; it goes on, and ends as if nothing was."""

import json
import signal
import time

import pytest
from commands import LOG_EVERY, LONG, PAUSE, SAVE_EVERY, STEPS, Struck, result, said

pytestmark = pytest.mark.slow


def test_signals_and_kills_cost_nothing_that_was_saved(place, whole, tmp_path, capsys):
    """SIGTERM to one rank, SIGINT to the other, then one killed, then the other: five starts of one command."""
    told, struck = [], []
    for number, rank in ((signal.SIGTERM, 1), (signal.SIGINT, 0), (signal.SIGKILL, 1), (signal.SIGKILL, 0)):
        now = Struck(place, tmp_path / 'run', rank, number)
        struck.append(now)
        lost = now.reached - now.committed[-1]
        what = f'{number.name} to rank {rank} at step {now.reached}'
        told.append(f'{what}: all ended in {now.seconds:.1f} s, {max(lost, 0)} steps lost')
        if number is signal.SIGKILL:
            assert now.codes[rank] == -signal.SIGKILL and now.codes[1 - rank] not in (0, 75), now.ended
            assert now.seconds < 20
            assert lost <= 2 * SAVE_EVERY, 'the interval, and a save that was under way'
        else:
            assert now.codes == [75, 75], now.ended
            saves = [said(each, 'saving') for each in now.ended]
            assert saves[0] == saves[1] and int(saves[0][-1]) == now.committed[-1]
            assert now.committed[-1] >= now.reached > now.began, 'no complete step is lost'
    began = [now.began for now in struck]
    assert began[1:3] == [now.committed[-1] for now in struck[:2]]
    assert began == sorted(began) and began[0] == 0 and struck[-1].committed[-1] < STEPS
    assert [rank.code for rank in place.run(tmp_path / 'run')] == [0, 0]
    assert result(tmp_path / 'run') == whole
    with capsys.disabled():
        print('', *told, 'ends as the run that nobody touched', sep='\n')


def test_a_hang_of_one_rank_ends_all(place, whole, tmp_path, capsys):
    """25 s: on a busy machine compiling alone may take ten, and is no hang."""
    with place.started(tmp_path / 'run', '--hang-seconds', '25', faults={'stall 1': 3 * LOG_EVERY}) as running:
        running.wait_for_line(f'row {3 * LOG_EVERY} ', rank=1, seconds=LONG)
        at = time.monotonic()
        ended = running.wait(seconds=LONG)
        seconds = time.monotonic() - at
    assert seconds < 45
    assert 70 in [rank.code for rank in ended] and all(rank.code not in (0, 75) for rank in ended), ended
    assert any('no progress for 25 s' in rank.err for rank in ended)
    assert [*(tmp_path / 'run').glob('hang-*.txt')]
    with capsys.disabled():
        print(f'\na hang of one rank: all ended after {seconds:.1f} s, with {[rank.code for rank in ended]}')
    assert [rank.code for rank in place.run(tmp_path / 'run')] == [0, 0]
    assert result(tmp_path / 'run') == whole


def test_a_second_signal_to_one_rank_ends_all(place, tmp_path, capsys):
    """The first would wait for the row, which sleeps for a minute."""
    now = Struck(place, tmp_path / 'run', 1, signal.SIGTERM, signal.SIGINT, pause=60, rows=0.02)
    assert now.codes[1] == 75 and now.codes[0] != 0, now.ended
    assert now.seconds < 30
    with capsys.disabled():
        print(f'\na second signal: all ended after {now.seconds:.1f} s, with {now.codes}')


def test_two_runs_in_one_folder(place, tmp_path):
    with place.started(tmp_path / 'run', pause=PAUSE) as first:
        first.wait_for_line('row', rank=1, seconds=LONG)
        at = time.monotonic()
        second = place.run(tmp_path / 'run')
        assert time.monotonic() - at < LONG
        assert [rank.code for rank in second] == [1, 1], second
        assert f'the run folder {tmp_path / "run"} is in use by process {first.ranks[0].pid} on ' in second[0].err
        assert 'rank 0 ended with exit code 1' in second[1].err
        first.signal(0, signal.SIGTERM)
        assert [rank.code for rank in first.wait(seconds=LONG)] == [75, 75]


def test_a_store_that_the_ranks_do_not_share(place, tmp_path):
    other = {1: {'KDJAX_STORE': str(tmp_path / 'other')}}
    zero, one = place.run(tmp_path / 'run', of_rank=other)
    assert (zero.code, one.code) == (1, 1), (zero.err, one.err)
    assert f'kdjax: the store {tmp_path / "other"} has no artifact' in one.err
    assert 'it has to be one folder for all processes' in one.err
    assert 'rank 1 ended with exit code 1; rank 0 cannot go on without it' in zero.err


def test_a_group_that_ended_left_its_result(place, whole):
    """Called again after the end, the command says the same."""
    ended = place.run(place.root / 'whole')
    assert [rank.code for rank in ended] == [0, 0]
    assert [said(rank, 'resumed') for rank in ended] == [[str(STEPS)]] * 2
    assert result(place.root / 'whole') == whole
    assert ended[0].out.rstrip().endswith(whole[0])
    assert json.loads((place.root / 'whole/identity.json').read_text())['device'].startswith('2 x cpu')
