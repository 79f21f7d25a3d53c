"""`kdjax condense`: every bad input is told before anything runs, and a set is made, measured and loads anywhere."""

import dataclasses
import json

import numpy as np
import pytest
import tiny
from PIL import Image

from kdjax import data
from kdjax.cli.main import main
from kdjax.data.condensed import CondensedSet, save_condensed
from kdjax.run import verify as verification

TINY = (
    *('--student', 'mlp-8', '--teacher', 'mlp-8', '--transfer', 'vit-8-1-p1-h2', '--real-batch', 4),
    *('--set-steps', 3, '--batch', 4, '--steps', 3, '--teacher-steps', 3, '--evaluations', 1),
)
ONE = (*TINY, '--transfer', '--no-soft-transfer')
"""Students of one architecture."""


@pytest.fixture
def blobs(monkeypatch, tmp_path):
    monkeypatch.setattr(data, 'load', lambda *_, **__: tiny.dataset())
    for name in ('HOME', 'CACHE', 'STORE'):
        monkeypatch.setenv(f'KDJAX_{name}', str(tmp_path / name.lower()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def called(capfd, *options):
    code = main(['condense', *map(str, options)])
    return code, *capfd.readouterr()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--method', 'dm'), 'one of --out FILE.npz (make a set), --measure FILE.npz'),
        (('--method', 'dm', '--out', 'a.png'), "--out 'a.png': the file's name has to end with .npz"),
        (('--method', 'dn', '--out', 'a.npz', '--ipc', 1), "unknown method 'dn'; did you mean 'dm'"),
        (('--method', 'dm', 'dc', '--out', 'a.npz'), '--out takes one --ipc and one --method'),
        (('--method', 'dc', '--out', 'a.npz', '--ipc', 0), '--ipc 0: at least 1'),
        (('--method', 'dc', '--out', 'a.npz', '--ipc', 9), 'class 0 has 8 examples, and 9 for each class are wanted'),
        (('--method', 'dc', '--out', 'a.npz', '--per-class', 2), '--per-class 2: say --ipc 2'),
        (('--method', 'dc', '--table', 'a.json', '--ipc', 1, 9), 'class 0 has 8 examples'),
        (('--measure', 'none.npz'), "'none.npz' does not exist: name a set"),
        (('--measure', 'foreign.npz'), "'foreign.npz' is no condensed set: it holds ['image', 'label']"),
        (('--measure', 'other.npz'), "was made of 'elsewhere' with other content than 'blobs' here"),
        (('--measure', 'uneven.npz'), "'uneven.npz' has 1 to 2 images of a class"),
        (('--method', 'dm', '--ipc', 1, '--out', 'uneven.npz'), "holds another set (method: 'random' there, 'dm' now"),
    ],
)
def test_bad_input_is_told_before_anything_runs(blobs, capfd, options, message):
    np.savez(blobs / 'foreign.npz', image=np.zeros(3), label=np.zeros(3))
    for name, origin in (('other', {'dataset': 'elsewhere', 'identity': 'abc'}), ('uneven', {})):
        about = {'method': 'random', 'dataset': 'blobs', 'identity': tiny.dataset().identity, 'per_class': 1, 'seed': 0}
        images, labels = np.zeros((4, 2, 2, 1), np.float32), np.asarray([0, 1, 2, 2])
        save_condensed(blobs / f'{name}.npz', CondensedSet(images, labels, (0.5,), (0.5,), about | origin))
    code, out, err = called(capfd, 'blobs', *options)
    assert code == 1 and message in err.replace('\n', ' '), err
    assert out == '' and not (blobs / 'store').exists()


@pytest.mark.parametrize(
    ('labels', 'message'),
    [([0, 2, 2, 0], 'class 1 has no examples: leave it out'), ([0, 1, 2], '4 images but 3 labels')],
)
def test_data_that_cannot_be_condensed(tmp_path, capfd, labels, message):
    images = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
    for split in ('train', 'validation', 'test'):
        np.savez(tmp_path / f'{split}.npz', image=images, label=np.asarray(labels), class_names=['a', 'b', 'c'])
    code, _, err = called(capfd, f'npz:{tmp_path}', '--ipc', 1, '--method', 'random', '--out', tmp_path / 'a.npz')
    assert code == 1 and message in err


def test_the_plan_says_what_will_be_trained(blobs, capfd):
    code, out, err = called(capfd, 'blobs', '--ipc', 2, '--method', 'dm', '--out', 'a.npz', '--dry-run', *ONE)
    assert code == 0, err
    assert not (blobs / 'store').exists() and not (blobs / 'a.npz').exists()
    for said in ('dm_2', 'chosen_random_2', 'all real images', 'random_plain', '24 training images of 3 classes'):
        assert said in out


def test_what_is_written_beside_a_set(blobs, capfd, monkeypatch):
    """The set is made; what was measured is made up."""

    def verify(asked, **_):
        arm = {'metrics': {'accuracy': [0.5], 'soft/accuracy': [0.5]}, 'cost': {'seconds': 1.0}}
        stored = {**arm, 'metrics': {**arm['metrics'], 'stored_bytes': [60.0]}}
        arms = {name: arm if name == 'rs2' else stored for name in asked.experiment.resolve()}
        config = dataclasses.asdict(asked.config)
        return {
            'version': 1, 'experiment': asked.name, 'title': asked.experiment.title, 'arms': arms, 'config': config,
            'dataset': 'blobs', 'split': asked.split, 'seeds': [0],
        }  # fmt: skip

    monkeypatch.setattr(verification, 'verify', verify)
    code, out, err = called(capfd, 'blobs', '--ipc', 1, '--method', 'random', '--out', 'made/a.npz', *ONE)
    assert code == 0, err
    assert [line for line in out.splitlines() if line.startswith('made/')] == [
        f'made/a.{ending}' for ending in ('npz', 'png', 'json', 'md')
    ]
    with np.load('made/a.npz', allow_pickle=False) as found:
        assert found['image'].shape == (3, 2, 2, 1) and found['label'].tolist() == [0, 1, 2]
        about = json.loads(str(found['provenance']))
    assert {'method': 'random', 'per_class': 1, 'seed': 0, 'dataset': 'blobs'}.items() <= about.items()
    card = json.loads((blobs / 'made/a.json').read_text())
    assert card['stored_bytes']['total'] == 60 and card['seconds'] is None and set(card['scores']) == {'lrs', 'ars'}
    with Image.open('made/a.png') as picture:
        assert picture.size == (48, 3 * 48 + 4)
    code, out, err = called(capfd, 'blobs', '--measure', 'made/a.npz', *ONE)
    assert code == 0 and 'made/a.md' in out, err
    code, out, err = called(capfd, 'blobs', '--ipc', 1, 2, '--method', 'herding', 'rs2', '--table', 'a.json', *ONE)
    assert code == 0, err
    lines = [line for line in (blobs / 'a.md').read_text().splitlines() if line.startswith('| ')]
    assert [line.split(' | ')[0] for line in lines[2:]] == 2 * ['| random', '| k_means', '| herding', '| rs2']


@pytest.mark.slow
def test_a_set_is_made_measured_and_loads_anywhere(blobs, capfd):
    make = ('blobs', '--ipc', 2, '--method', 'dm', '--out', 'made/dm.npz', *TINY)
    code, out, _ = called(capfd, *make)
    assert code == 0 and 'made/dm.npz' in out
    with np.load('made/dm.npz', allow_pickle=False) as found:
        assert found['image'].shape == (6, 2, 2, 1)
        assert found['label'].tolist() == [0, 1, 2, 0, 1, 2]
        about = json.loads(str(found['provenance']))
    assert {'method': 'dm', 'per_class': 2, 'seed': 0, 'dataset': 'blobs'}.items() <= about.items()
    with Image.open('made/dm.png') as picture:
        assert picture.size == (2 * 48 + 2, 3 * 48 + 4)
    card = json.loads((blobs / 'made/dm.json').read_text())
    assert card['stored_bytes'] == {'images': 96, 'labels': 24, 'total': 120}
    assert set(card['scores']) == {'lrs', 'ars'} and card['seconds'] > 0
    arms = card['record']['arms']
    assert set(arms) == {'dm', 'random', 'k_means', 'rs2', 'dm_plain', 'random_plain'}
    wanted = {'accuracy', 'soft/accuracy', 'vit/accuracy', 'vit_soft/accuracy', 'stored_bytes'}
    assert wanted <= set(arms['dm']['metrics'])
    text = (blobs / 'made/dm.md').read_text()
    assert '| mlp-8, hard | mlp-8, soft |' in text and '120' in text
    before = (blobs / 'made/dm.npz').read_bytes()
    code, _, err = called(capfd, *make)
    assert code == 0 and 'training' not in err and (blobs / 'made/dm.npz').read_bytes() == before
    code, out, _ = called(capfd, 'blobs', '--measure', 'made/dm.npz', *TINY)
    again = json.loads((blobs / 'made/dm.json').read_text())['record']['arms']['dm']['metrics']['accuracy']
    assert code == 0 and again == arms['dm']['metrics']['accuracy']


@pytest.mark.slow
def test_the_fair_table_is_one_command(blobs, capfd):
    code, out, _ = called(
        capfd, 'blobs', '--ipc', 1, 2, '--method', 'herding', '--table', 'table.json', '--seeds', 2, *TINY
    )
    assert code == 0 and 'table.json' in out
    record = json.loads((blobs / 'table.json').read_text())
    assert list(record['arms'])[:4] == ['random_1', 'k_means_1', 'herding_1', 'rs2_1'] and len(record['arms']) == 8
    lines = (blobs / 'table.md').read_text().splitlines()
    assert sum(line.startswith('| herding |') for line in lines) == 2
    assert sum(line.startswith('| rs2 |') for line in lines) == 2
