"""Two processes train a seed each, as one program, and find each other's in one store."""

import json

import pytest
from processes import run

pytestmark = pytest.mark.slow

SHORT = ('--steps', '60', '--student', 'mlp-8', '--teacher', 'mlp-16', '--teacher-steps', '20', '--evaluations', '2')


def test_two_processes_train_a_seed_each_as_one_device_would(tmp_path):
    environ = {'KDJAX_STORE': str(tmp_path / 'store'), 'KDJAX_CACHE': str(tmp_path / 'cache')}

    def verified(name, *more, ranks):
        out = tmp_path / f'{name}.json'
        command = ('verify', 'quickstart', '--seeds', '2', '--out', str(out), '--json', *SHORT, *more)
        ended = run(command, folder=tmp_path / name, ranks=ranks, environ=environ, seconds=240)
        assert {e.code for e in ended} <= {0, 3}, ended[0].err + ended[-1].err
        return json.loads(out.read_text()), ended[0].err

    record, said = verified('two', '--seeds-at-once', 'auto', ranks=2)
    assert 'training arm/kd, seeds 0, 1: 60 steps' in said
    assert record['identity']['seeds_at_once'] == 2 and record['identity']['layout']['mesh']['data'] == 2
    again, said = verified('again', '--seeds-at-once', 'auto', ranks=2)
    assert 'training' not in said and again['arms'] == record['arms']
    alone, _ = verified('one', ranks=1)
    labels = [r['arms']['labels']['metrics']['nll'] for r in (record, alone)]
    assert labels[0] == pytest.approx(labels[1], abs=1e-5)
