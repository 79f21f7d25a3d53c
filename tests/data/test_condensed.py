"""Condensed sets on disk, and real data class by class."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from kdjax.algorithms.condensation.mosaics import decoded, repeated_labels
from kdjax.data.condensed import CondensedSet, by_class, factorised, load_condensed, save_condensed
from kdjax.errors import UserError

MADE = {'method': 'dm', 'dataset': 'blobs', 'identity': 'abc', 'per_class': 1, 'seed': 0}


def small(**changes):
    rng = np.random.default_rng(0)
    fields = {
        'image': rng.uniform(size=(3, 2, 2, 1)).astype(np.float32),
        'label': np.arange(3, dtype=np.int32),
        'mean': (0.25,),
        'std': (0.5,),
        'provenance': MADE,
        'soft_label': np.full((3, 3), 1 / 3, np.float32),
        'rate': 0.5,
    }
    return CondensedSet(**(fields | changes))


def test_a_set_comes_back_and_loads_without_us(tmp_path):
    path, wanted = tmp_path / 'set.npz', small()
    save_condensed(path, wanted)
    found = load_condensed(path)
    for field in ('image', 'label', 'soft_label'):
        np.testing.assert_array_equal(getattr(found, field), getattr(wanted, field))
    assert (found.mean, found.std, found.rate, found.provenance) == ((0.25,), (0.5,), 0.5, MADE)
    with np.load(path, allow_pickle=False) as plain:
        assert json.loads(str(plain['provenance'])) == MADE
        seen = (plain['image'] - plain['mean']) / plain['std']
    np.testing.assert_allclose(seen, found.seen, rtol=1e-6)
    assert seen.dtype == np.float32


def test_what_a_set_has_not_is_not_in_the_file(tmp_path):
    save_condensed(tmp_path / 'set.npz', small(soft_label=None, rate=None))
    found = load_condensed(tmp_path / 'set.npz')
    assert found.soft_label is None and found.rate is None
    assert found.stored_bytes == {'images': 48, 'labels': 12, 'total': 60}
    assert small().stored_bytes == {'images': 48, 'labels': 48, 'total': 96}


def test_foreign_files_are_refused(tmp_path):
    np.savez(tmp_path / 'other.npz', image=np.zeros(3), label=np.zeros(3))
    with pytest.raises(UserError, match=r"other.npz' is no condensed set: it holds \['image', 'label'\]"):
        load_condensed(tmp_path / 'other.npz')
    (tmp_path / 'text.npz').write_text('hello')
    with pytest.raises(UserError, match=r"text.npz' cannot be read as .npz of plain arrays"):
        load_condensed(tmp_path / 'text.npz')
    with pytest.raises(UserError, match='does not exist: name a set'):
        load_condensed(tmp_path / 'none.npz')


def test_a_set_of_other_data_is_refused(tmp_path):
    save_condensed(tmp_path / 'set.npz', small())
    with pytest.raises(UserError, match="was made of 'blobs' with other content than 'blobs' here"):
        load_condensed(tmp_path / 'set.npz', dataset=tiny.dataset())
    own = small(provenance=MADE | {'identity': tiny.dataset().identity})
    save_condensed(tmp_path / 'own.npz', own)
    assert load_condensed(tmp_path / 'own.npz', dataset=tiny.dataset()).rate == 0.5


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'image': np.zeros((3, 4, 4, 1), np.float32)}, r'holds images \[4, 4, 1\], .blobs. \[2, 2, 1\]'),
        ({'label': np.asarray([0, 1, 3])}, r'label 3 of example 2 is not in 0\.\.2'),
        ({'soft_label': np.zeros((3, 4), np.float32)}, "soft labels of 4 classes, 'blobs' has 3"),
    ],
)
def test_a_set_that_does_not_match_its_data_is_refused(tmp_path, changes, message):
    save_condensed(tmp_path / 'set.npz', small(provenance=MADE | {'identity': tiny.dataset().identity}, **changes))
    with pytest.raises(UserError, match=message):
        load_condensed(tmp_path / 'set.npz', dataset=tiny.dataset())


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'provenance': {'method': 'dm'}}, r"lacks \['dataset', 'identity', 'per_class', 'seed'\]"),
        ({'label': np.arange(2)}, r'images \[3, 2, 2, 1\] and labels \[2\]'),
        ({'image': np.full((3, 2, 2, 1), np.nan)}, 'holds NaN or infinity'),
        ({'soft_label': np.zeros((2, 3))}, r'soft labels \[2, 3\] of 3 images'),
    ],
)
def test_what_is_no_set(changes, message):
    with pytest.raises(UserError, match=message):
        small(**changes)


def test_rows_hold_every_class_and_every_image():
    source = tiny.dataset(examples=25)
    rows = by_class(source)
    assert rows['train']['image'].shape == (9, 3, 2, 2, 1)
    np.testing.assert_array_equal(rows['train']['label'], np.broadcast_to(np.arange(3), (9, 3)))
    assert len(np.unique(rows['train']['image'].reshape(-1, 4), axis=0)) == 25
    assert [len(rows[s]) for s in ('validation', 'test')] == [1, 1]
    assert rows.identity != source.identity


def test_mosaics_hold_small_images_and_give_them_back():
    """Constant images survive the way there and back; so does their number."""
    flat = np.arange(8.0, dtype=np.float32).reshape(8, 1, 1, 1, 1) + 10 * np.arange(3).reshape(1, 3, 1, 1, 1)
    images = np.broadcast_to(flat, (8, 3, 4, 4, 1)).astype(np.float32)
    stored = factorised(images, 2)
    assert stored.shape == (2, 3, 4, 4, 1)
    np.testing.assert_array_equal(stored[0, 1, :, :, 0], np.kron([[10, 11], [12, 13]], np.ones((2, 2))))
    np.testing.assert_allclose(decoded(jnp.asarray(stored), 2), images, atol=1e-5)
    assert repeated_labels(jnp.zeros((2, 3, 3)), 2).shape == (8, 3, 3)
    with pytest.raises(UserError, match='3 images of 4 x 4 in mosaics of 2 x 2'):
        factorised(images[:3], 2)
    with pytest.raises(UserError, match='images of 4 x 4 in tiles of 3 x 3'):
        decoded(jnp.asarray(stored), 3)
