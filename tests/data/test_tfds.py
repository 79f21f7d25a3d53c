"""TFDS data sets, written to disk and read back with no TensorFlow in the process."""

import re
import sys

import numpy as np
import pytest
from tfds_folder import picture, write

from kdjax import data
from kdjax.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('KDJAX_CACHE', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('tfds')
    write(root, {'train': 50, 'test': 12})
    return root


def originals(source):
    return source.take(np.arange(len(source)))['image'][:, 0, 0, 0].tolist()


def test_a_split_of_tfds_comes_back_as_it_was_written(folder):
    dataset = data.load('tfds:tiny_colours', folder=folder)
    assert 'tensorflow' not in sys.modules
    test = dataset['test']
    assert test.arrays is None
    found = test.take(np.array([4, 2]))
    np.testing.assert_array_equal(found['image'], [picture(4, 1), picture(2, 2)])
    assert found['label'].tolist() == [1, 2] and found['index'].tolist() == [4, 2]
    assert found['label'].dtype == found['index'].dtype == np.int32
    assert (dataset.classes, dataset.class_names) == (3, ('red', 'green', 'blue'))
    assert (dataset.image_shape, dataset.origin.licence) == ((8, 8, 3), 'CC0-1.0')


def test_validation_is_carved_from_train_and_disjoint(folder):
    dataset = data.load('tfds:tiny_colours', folder=folder)
    train, validation = originals(dataset['train']), originals(dataset['validation'])
    assert (len(train), len(validation), len(dataset['test'])) == (45, 5, 12)
    assert sorted(train + validation) == list(range(50))
    assert np.bincount(dataset['train'].label).tolist() == [15, 15, 15]


def test_smaller_train_subsets_lie_inside_larger_ones(folder):
    small, large = (data.load('tfds:tiny_colours', folder=folder, train_examples=n) for n in (6, 30))
    assert originals(large['train'])[:6] == originals(small['train'])
    assert np.bincount(small['train'].label).tolist() == [2, 2, 2]
    assert small.identity != large.identity


def test_identity_is_stable_and_follows_the_content(folder, tmp_path):
    dataset = data.load('tfds:tiny_colours', folder=folder)
    assert dataset.identity == data.load('tfds:tiny_colours', folder=folder).identity
    write(tmp_path, {'train': 49, 'test': 12})
    assert dataset.identity != data.load('tfds:tiny_colours', folder=tmp_path).identity


def test_statistics_are_on_the_unit_scale(folder):
    dataset = data.load('tfds:tiny_colours', folder=folder)
    images = dataset['train'].take(np.arange(45))['image'] / 255
    np.testing.assert_allclose(dataset.mean, images.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(dataset.std, images.std(axis=(0, 1, 2)))


def test_host_batches_follow_the_index_rows(folder):
    source = data.load('tfds:tiny_colours', folder=folder)['train']
    rows = data.batch_indices(len(source), batch=4, seed=3, first_step=5, steps=12)
    found = list(data.host_batches(source, rows, prefetch=3))
    np.testing.assert_array_equal([batch['index'] for batch in found], rows)
    np.testing.assert_array_equal(found[7]['image'], source.take(rows[7])['image'])


def test_a_validation_without_a_test_is_the_test(tmp_path):
    write(tmp_path, {'train': 30, 'validation': 6})
    dataset = data.load('tfds:tiny_colours', folder=tmp_path)
    assert {split: len(source) for split, source in dataset.splits.items()} == {
        'train': 27,
        'validation': 3,
        'test': 6,
    }
    assert originals(dataset['test']) == list(range(6))


def test_train_alone_gives_all_three(tmp_path):
    write(tmp_path, {'train': 30})
    dataset = data.load('tfds:tiny_colours', folder=tmp_path)
    parts = [originals(dataset[split]) for split in ('train', 'validation', 'test')]
    assert [len(part) for part in parts] == [24, 3, 3]
    assert sorted(parts[0] + parts[1] + parts[2]) == list(range(30))


def test_a_data_set_on_disk_can_move_into_memory(folder):
    disk = data.load('tfds:tiny_colours', folder=folder)
    memory = disk.in_memory()
    chosen = np.array([3, 0, 3])
    for name, array in disk['train'].take(chosen).items():
        np.testing.assert_array_equal(memory['train'].arrays[name][chosen], array)
    assert memory.identity == disk.identity


def test_the_latest_version_is_read_unless_one_is_named(tmp_path):
    for version, count in (('1.9.0', 20), ('1.10.0', 30)):
        write(tmp_path, {'train': count, 'test': 3}, version=version)
    assert len(data.load('tfds:tiny_colours', folder=tmp_path)['train']) == 27
    assert len(data.load('tfds:tiny_colours:1.9.0', folder=tmp_path)['train']) == 18


def test_one_of_several_configurations_must_be_named(tmp_path):
    for config in ('plain', 'noisy'):
        write(tmp_path, {'train': 20, 'test': 3}, config=config)
    with pytest.raises(UserError, match=re.escape("choose tfds:tiny_colours:NAME of ['noisy', 'plain']")):
        data.load('tfds:tiny_colours', folder=tmp_path)
    assert data.load('tfds:tiny_colours:noisy', folder=tmp_path).image_shape == (8, 8, 3)
    assert data.load('tfds:tiny_colours:noisy/1.0.0', folder=tmp_path).image_shape == (8, 8, 3)


def test_what_is_not_on_disk_is_named_with_its_remedy(folder):
    message = (
        r"'tfds:cifar10' is not in .*\(there: tiny_colours\).*tfds build cifar10 --file_format=array_record"
    )
    with pytest.raises(UserError, match=message):
        data.load('tfds:cifar10', folder=folder)


def test_another_file_format_is_named_with_its_remedy(tmp_path):
    info = write(tmp_path, {'train': 20, 'test': 3}) / 'dataset_info.json'
    info.write_text(info.read_text().replace('array_record', 'tfrecord'))
    with pytest.raises(UserError, match='is stored as tfrecord, not array_record: rewrite it with'):
        data.load('tfds:tiny_colours', folder=tmp_path)


def test_unlabelled_test_examples_are_named(tmp_path):
    write(tmp_path, {'train': 20, 'test': 3}, labels={'train': np.arange(20) % 3, 'test': [0, 1, -1]})
    with pytest.raises(
        UserError, match=r"split 'test' of data set 'tfds:tiny_colours': label -1 of example 2"
    ):
        data.load('tfds:tiny_colours', folder=tmp_path)


def test_a_single_class_is_named(tmp_path):
    write(tmp_path, {'train': 20, 'test': 3}, labels={'train': np.zeros(20, int), 'test': [0, 1, 2]})
    with pytest.raises(
        UserError, match=r"split 'train' of data set 'tfds:tiny_colours' holds a single class \(0\)"
    ):
        data.load('tfds:tiny_colours', folder=tmp_path)
