"""The store gives back what was put, whole or not at all."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from kdjax.errors import UserError
from kdjax.run.store import Store, default_root

ARRAYS = {
    'variables': {'student': {'params': {'w': np.arange(6, dtype=np.float32).reshape(2, 3)}, 'stats': {}}},
    'half': np.arange(4, dtype=np.float32).astype(ml_dtypes.bfloat16),
    'count': np.int32(7),
    'flags': np.array([True, False]),
    'empty': {},
}
INFO = {'metrics': {'test': {'accuracy': 0.5}}, 'curves': {'step': [1, 2]}}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / 'store')


def same(a, b) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def put(store, arrays, info):
    """What is there after a put."""
    store.put('d', arrays, info)
    return store.get('d')


def test_round_trip(store):
    assert not store.has('d')
    kept = put(store, ARRAYS, INFO)
    assert store.has('d')
    same(kept.arrays, ARRAYS)
    assert (kept.info, kept.digest) == (INFO, 'd')


def test_what_is_not_there_names_the_folder_and_the_remedy(store):
    with pytest.raises(UserError, match=r'has no artifact 0123456789ab, .* one folder for all processes.* KDJAX_STORE'):
        store.get('0123456789abcdef')


def test_arrays_on_the_device_come_back_too(store):
    kept = put(store, {'x': jnp.arange(3, dtype=jnp.bfloat16)}, {})
    same(kept.arrays, {'x': np.arange(3).astype(ml_dtypes.bfloat16)})


def test_an_artifact_of_facts_alone(store):
    artifact = put(store, {}, {'chosen': 'b'})
    assert (artifact.arrays, artifact.info) == ({}, {'chosen': 'b'})


def test_facts_hold_no_nan(store):
    assert put(store, {}, {'seconds': float('nan')}).info == {'seconds': None}


def test_a_put_that_fails_leaves_nothing(store, monkeypatch):
    def full_disk(self, *args, **kwargs):
        raise OSError('no space left')

    monkeypatch.setattr(ocp.StandardCheckpointer, 'save', full_disk)
    with pytest.raises(OSError, match='no space left'):
        store.put('d', ARRAYS, INFO)
    assert list(store.root.iterdir()) == []
    assert not store.has('d')


def test_facts_that_json_cannot_say_leave_nothing(store):
    with pytest.raises(TypeError):
        store.put('d', {}, {'x': object()})
    assert list(store.root.iterdir()) == []


def test_the_first_to_finish_is_kept(store):
    store.put('d', {'x': np.float32(1)}, {'by': 'first'})
    second = put(store, {'x': np.float32(2)}, {'by': 'second'})
    assert second.info == {'by': 'first'}
    assert second.arrays['x'] == 1
    assert [p.name for p in store.root.iterdir()] == ['d']


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv('KDJAX_CACHE', str(tmp_path / 'cache'))
    monkeypatch.delenv('KDJAX_STORE', raising=False)
    assert default_root() == tmp_path / 'cache' / 'store'
    monkeypatch.setenv('KDJAX_STORE', str(tmp_path / 'own'))
    assert default_root() == tmp_path / 'own'


def test_a_place_that_cannot_be_made_names_the_remedy(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=r'cannot be made .*: set KDJAX_STORE to a folder you own'):
        Store(tmp_path / 'file' / 'store')
