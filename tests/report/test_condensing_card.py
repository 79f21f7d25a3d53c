"""The card and the picture of a condensed set, from a record that nobody measured."""

import json

import numpy as np
import pytest
from made_up import record as made_up

from kdjax.data.condensed import CondensedSet
from kdjax.report.condensing_card import FORMAT, card, card_json, card_text, grid

ABOUT = {'method': 'dm', 'dataset': 'digits', 'identity': 'abc', 'per_class': 2, 'seed': 3}


def condensed(side=8, channels=1):
    images = np.arange(6, dtype=np.float32)[:, None, None, None] * np.ones((1, side, side, channels), np.float32) / 5
    return CondensedSet(images, np.tile(np.arange(3, dtype=np.int32), 2), (0.5,), (0.5,), ABOUT)


@pytest.fixture
def record():
    levels = {'dm': 0.8, 'random': 0.6, 'k_means': 0.7, 'rs2': 0.9, 'dm_plain': 0.7, 'random_plain': 0.5}
    made = made_up('condensing/digits', levels=levels, claims=(), systems=())
    made['config'] = {'student': 'convnet-16-3', 'transfer': [], 'per_class': 2}
    for name, arm in made['arms'].items():
        arm['metrics']['soft/accuracy'] = arm['metrics']['accuracy']
        arm['metrics'] |= {} if name == 'rs2' else {'stored_bytes': [1560.0] * 5}
    return made


def test_a_card_holds_bytes_scores_and_the_whole_record(record):
    made = card(condensed(), record, file='dm.npz', seconds=12.5)
    assert json.loads(card_json(made)) == json.loads(json.dumps(made))
    assert made['format'] == FORMAT and made['record'] == record
    assert made['stored_bytes'] == {'images': 1536, 'labels': 24, 'total': 1560}
    assert set(made['scores']) == {'lrs', 'ars'} and all(0 < v < 1 for v in made['scores']['ars'])


def test_a_card_reads_as_text(record):
    text = card_text(card(condensed(), record, file='dm.npz', seconds=12.5)).replace('\N{NO-BREAK SPACE}', ' ')
    for said in ('# dm: 2 images of each class of digits', 'in 12.5 s of updates', '1.52 KiB', "load('dm.npz')"):
        assert said in text
    assert [line.split(' | ')[0] for line in text.splitlines() if line.startswith('| ')][2:] == [
        '| dm', '| random', '| k_means', '| rs2',
    ]  # fmt: skip
    assert 'chosen' in card_text(card(condensed(), record, file='dm.npz', seconds=None))


@pytest.mark.parametrize('channels', [1, 3])
def test_the_picture_has_a_row_for_each_class(channels):
    found = grid(condensed(channels=channels))
    assert found.shape == (3 * 48 + 4, 2 * 48 + 2, 3)[: 3 if channels == 3 else 2]
    corners = found[[0, 50, 100], :][:, [0, 50]]
    assert (corners.reshape(3, 2, -1)[..., 0] == np.asarray([[0, 153], [51, 204], [102, 255]])).all()
    assert (found[48:50] == 255).all()
