"""Digits that face either way, and digits with wrong labels."""

import numpy as np
import pytest

from kdjax import data
from kdjax.errors import UserError


def test_half_of_the_images_of_every_split_are_mirror_images_of_the_same():
    plain, turned = data.load('digits'), data.load('mirrored:digits')
    assert turned.flip_ok and turned.name == 'mirrored:digits' and turned.identity != plain.identity
    for split in plain.splits:
        before, after = plain[split]['image'], turned[split]['image']
        same = (after == before).all((1, 2, 3))
        assert ((after == before[:, :, ::-1]).all((1, 2, 3)) | same).all()
        assert 0.4 < same.mean() < 0.6
        np.testing.assert_array_equal(turned[split]['label'], plain[split]['label'])


def test_subsets_are_turned_as_the_whole_is():
    few, all_ = (data.load('mirrored:digits', train_examples=n)['train']['image'] for n in (100, None))
    whole = {image.tobytes() for image in all_}
    assert all(image.tobytes() in whole for image in few)


def test_a_tenth_of_the_training_labels_is_wrong_and_all_wrong_ones_occur():
    plain, wrong = data.load('digits'), data.load('mislabelled:0.1:digits')
    labels = [(plain[s]['label'], wrong[s]['label']) for s in ('train', 'validation', 'test')]
    moved = labels[0][0] != labels[0][1]
    assert 0.07 < moved.mean() < 0.13
    assert len(np.unique((labels[0][1] - labels[0][0])[moved] % 10)) == 9
    for before, after in labels[1:]:
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(wrong['train']['image'], plain['train']['image'])


def test_what_cannot_be_altered():
    with pytest.raises(UserError, match='the share of wrong labels stands before the name, as in mislabelled'):
        data.load('mislabelled:digits')
    with pytest.raises(UserError, match=r'mislabelled:1.0:digits: the share of wrong labels lies in \[0, 1\)'):
        data.load('mislabelled:1.0:digits')
    with pytest.raises(UserError, match="unknown data set 'digit'"):
        data.load('mirrored:digit')
