"""Real processes: they join, agree, stop at the same step, and do not outlive each other."""

import os
import pathlib
import re
import signal

import pytest
from processes import group, run

TOGETHER = """
    import pathlib, signal, sys
    import jax, jax.numpy as jnp, numpy as np
    from kdjax.errors import UserError
    from kdjax.run.group import distributed, preflight

    def refused(*given):
        try:
            preflight.check(*given)
        except UserError as error:
            print('refused:', error)

    def main():
        signal.signal(signal.SIGTERM, lambda *_: distributed.preempt())
        signal.signal(signal.SIGINT, lambda *_: distributed.preempt())
        rank = distributed.rank()
        print('rank', rank, distributed.ranks(), distributed.is_writer(), distributed.active())
        print('agreed', distributed.agree({'rank': rank}), distributed.agree(2.5 * rank), distributed.agree('', 'x'))
        print('decided', distributed.decide({'by': rank}), distributed.decide(rank + 1), distributed.decide(rank, 'x'))
        place = pathlib.Path(sys.argv[1])
        preflight.check(place / 'run', 'same code')
        print('left behind', sorted(path.name for path in (place / 'run').iterdir()))
        preflight.SETTLE_SECONDS = 0.5
        refused(None, f'code {rank}')
        refused(place / f'run{rank}')
        distributed.barrier('all refused')
        train()
        return 75

    def train():
        mesh = jax.make_mesh((jax.device_count(),), ('data',))
        sharding = jax.NamedSharding(mesh, jax.P('data'))
        total = jax.jit(jnp.sum)
        for step in range(1, 10_000):
            ones = jax.make_array_from_callback((jax.device_count(),), sharding, lambda _: np.ones(1, np.float32))
            value = float(total(ones))
            if step == 5:
                print('training', value)
            if distributed.preemption_reached():
                print('stopped at', step, distributed.agree(step, 'step'))
                return

    sys.argv[1:] = [PLACE]
    sys.exit(distributed.run(main))
"""


def together(place: pathlib.Path) -> str:
    return TOGETHER.replace('PLACE', repr(str(place)))


def test_two_join_agree_compare_and_stop_at_the_same_step(tmp_path):
    with group(together(tmp_path), folder=tmp_path / 'logs', ranks=2, devices=2) as running:
        running.wait_for_line('training 4.0')
        running.signal(1, signal.SIGTERM)
        ended = running.wait(seconds=30)
    assert [rank.code for rank in ended] == [75, 75], ended
    for i, rank in enumerate(ended):
        assert f'rank {i} 2 {i == 0} True' in rank.out
        assert "agreed [{'rank': 0}, {'rank': 1}] [0.0, 2.5] ['', '']" in rank.out
        assert "decided {'by': 0} 1 0" in rank.out
        assert 'left behind []' in rank.out
        code, folder = re.findall('refused: (.*)', rank.out)
        assert re.fullmatch(
            r'rank 1 \(on .*\) differs from rank 0 \(on .*\): experiment is code 1 there, code 0 on rank 0: '
            r"copy the same experiment's file to every host",
            code,
        )
        assert re.search(r'rank 1 \(on .*\): .*/run1 is not the run folder that rank 0 sees ', folder)
        assert folder.endswith('give --out on a file system that all hosts share')
    assert ended[0].out.splitlines()[-1] == ended[1].out.splitlines()[-1]
    step, both = re.search(r'stopped at (\d+) \[(.*)\]', ended[0].out).groups()
    assert both == f'{step}, {step}'


CRASH = """
    import sys, time
    from kdjax.run.group import distributed
    distributed.PATIENCE_SECONDS = 0.5

    def main():
        if distributed.rank() == 1:
            raise KeyError('a bug')
        time.sleep(100)

    sys.exit(distributed.run(main))
"""


def test_a_rank_that_fails_takes_the_others_along(tmp_path):
    zero, one = run(CRASH, folder=tmp_path, seconds=20)
    assert [zero.code, one.code] == [2, 2]
    assert "KeyError: 'a bug'" in one.err
    assert zero.err == 'kdjax: rank 1 ended with exit code 2; rank 0 cannot go on without it\n'


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_four_stop_at_the_same_step_though_two_are_asked(number, tmp_path):
    with group(together(tmp_path), folder=tmp_path / 'logs', ranks=4) as running:
        running.wait_for_line('training 4.0')
        running.signal(3, number)
        running.signal(0, number)
        ended = running.wait(seconds=60)
    assert [rank.code for rank in ended] == [75] * 4
    assert len({rank.out.splitlines()[-1] for rank in ended}) == 1


COLLECTIVE = """
    import sys
    import jax, jax.numpy as jnp, numpy as np
    from kdjax.run.group import distributed

    def main():
        mesh = jax.make_mesh((jax.device_count(),), ('data',))
        sharding = jax.NamedSharding(mesh, jax.P('data'))
        total = jax.jit(jnp.sum)
        for step in range(10**9):
            ones = jax.make_array_from_callback((jax.device_count(),), sharding, lambda _: np.ones(1, np.float32))
            total(ones).block_until_ready()
            if step == 5:
                print('training', flush=True)

    sys.exit(distributed.run(main))
"""


@pytest.mark.slow
@pytest.mark.parametrize('victim', [0, 1, 2])
def test_all_end_within_20_seconds_of_a_kill(victim, tmp_path):
    with group(COLLECTIVE, folder=tmp_path, ranks=3) as running:
        for rank in range(3):
            running.wait_for_line('training', rank=rank)
        running.signal(victim, signal.SIGKILL)
        ended = running.wait(seconds=20)
    print('seconds', [rank.seconds - ended[victim].seconds for rank in ended])
    assert ended[victim].code == -9
    assert all(rank.code != 0 for rank in ended)


WAITS = """
    import sys, time
    from kdjax.run.group import distributed

    def main():
        print('waiting', flush=True)
        time.sleep(100)

    sys.exit(distributed.run(main))
"""


@pytest.mark.slow
def test_ranks_that_wait_end_within_20_seconds_of_a_kill(tmp_path):
    with group(WAITS, folder=tmp_path) as running:
        for rank in range(2):
            running.wait_for_line('waiting', rank=rank)
        running.signal(1, signal.SIGKILL)
        zero, one = running.wait(seconds=20)
    assert (zero.code, one.code) == (-signal.SIGABRT, -signal.SIGKILL)
    assert 'stopped sending heartbeats' in zero.err


@pytest.mark.slow
def test_a_signal_that_nobody_handles_still_ends_a_rank(tmp_path):
    """JAX's handler of SIGTERM would swallow it."""
    with group(WAITS, folder=tmp_path) as running:
        running.wait_for_line('waiting', rank=1)
        running.signal(1, signal.SIGTERM)
        zero, one = running.wait(seconds=20)
    assert one.code == -signal.SIGTERM
    assert zero.code != 0


ALL_WRONG = """
    import sys, time
    from kdjax.run.group import distributed

    def main():
        time.sleep(distributed.rank())
        return 1

    sys.exit(distributed.run(main))
"""


@pytest.mark.slow
def test_ranks_that_fail_alike_keep_their_own_exit_codes(tmp_path):
    ended = run(ALL_WRONG, folder=tmp_path, ranks=3, seconds=30)
    assert [(rank.code, rank.err) for rank in ended] == [(1, '')] * 3


@pytest.mark.slow
def test_a_rank_that_does_not_come_is_named_by_the_command(tmp_path):
    zero, two = run(
        ['list'], folder=tmp_path, ranks=4, start=[0, 2], environ={'KDJAX_INIT_TIMEOUT': '8'}, seconds=40
    )
    assert (zero.code, two.code) == (1, 1)
    assert zero.err == two.err
    assert zero.err.startswith('kdjax: ranks 1, 3 of 4 did not reach 127.0.0.1:')


ABSENT = """
    import sys
    from kdjax.run.group import distributed

    def main():
        if distributed.rank() == 0:
            try:
                distributed.agree(1, 'weights', seconds=1.0)
            except RuntimeError as error:
                print(error)
            distributed.barrier('both')
        else:
            distributed.barrier('both')
            try:
                distributed.decide(1, 'weights', seconds=0.5)
            except RuntimeError as error:
                print(error)
        return 0

    sys.exit(distributed.run(main))
"""


@pytest.mark.slow
def test_a_rank_that_does_not_agree_is_named(tmp_path):
    zero, one = run(ABSENT, folder=tmp_path, seconds=30)
    assert (zero.code, one.code) == (0, 0)
    assert "rank 1 of 2 did not come to 'weights' within 1 s\n" in zero.out
    assert "rank 0 of 2 did not come to 'weights' within 0.5 s\n" in one.out


@pytest.mark.slow
def test_a_group_that_jax_finds_by_slurms_variables(tmp_path):
    named = dict.fromkeys(('KDJAX_COORDINATOR', 'KDJAX_PROCESSES', 'KDJAX_PROCESS'), '')
    slurm = {
        'SLURM_JOB_ID': str(os.getpid()),
        'SLURM_NTASKS': '2',
        'SLURM_STEP_NUM_TASKS': '2',
        'SLURM_STEP_NODELIST': 'localhost',
    }
    own = {i: {'SLURM_PROCID': str(i), 'SLURM_LOCALID': str(i)} for i in range(2)}
    with group(
        together(tmp_path),
        folder=tmp_path / 'logs',
        environ={**named, **slurm, 'KDJAX_DISTRIBUTED': 'auto'},
        of_rank=own,
    ) as running:
        running.wait_for_line('training 2.0')
        running.signal(0, signal.SIGTERM)
        assert [rank.code for rank in running.wait(seconds=30)] == [75, 75]


@pytest.mark.slow
def test_doctor_tells_two_processes_that_they_differ(tmp_path):
    zero, one = run(
        ['doctor', '--out', str(tmp_path / 'run')],
        folder=tmp_path / 'logs',
        devices=2,
        of_rank={1: {'KDJAX_DEVICES': '1'}},
        seconds=90,
    )
    assert (zero.code, one.code) == (1, 1)
    assert one.out == ''
    assert 'devices is 1 x cpu (cpu) there, 2 x cpu (cpu) on rank 0: give every process the same devices' in zero.out
    assert str(tmp_path / 'run') in zero.out


@pytest.mark.slow
@pytest.mark.parametrize('command', ['run', 'verify'])
def test_one_rank_with_other_code_is_refused_by_the_command(command, tmp_path):
    """Rank 1 has another version of the experiment's file."""
    name = 'experiments/logits/quickstart.py'
    text = (pathlib.Path(__file__).parents[2] / name).read_text()
    for i in range(2):
        place = tmp_path / f'host{i}' / name
        place.parent.mkdir(parents=True)
        place.write_text(text + f'\n\nDIFFERENCE = {i}\n')
    with group(
        [command, 'quickstart', '--out', str(tmp_path / 'out')],
        folder=tmp_path / 'logs',
        of_rank={i: {'KDJAX_HOME': str(tmp_path / f'host{i}')} for i in range(2)},
        environ={'KDJAX_STORE': str(tmp_path / 'store')},
    ) as running:
        ended = running.wait(seconds=60)
    assert [rank.code for rank in ended] == [1, 1]
    for rank in ended:
        assert 'rank 1 (on ' in rank.err and 'differs from rank 0' in rank.err and 'experiment is ' in rank.err
        assert rank.err.rstrip().endswith("copy the same experiment's file to every host")
