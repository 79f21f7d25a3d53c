"""Corpora: frozen, split by document, and loaded as rows; and the messages for what cannot be."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from tfds_folder import write_texts

from kdjax import data
from kdjax.data import corpora, documents
from kdjax.data.batches import batch_indices, host_batches
from kdjax.data.documents import plain
from kdjax.data.listing import available
from kdjax.data.tokenizers import BPETokenizer, ByteTokenizer
from kdjax.errors import UserError


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch):
    monkeypatch.setenv('KDJAX_CACHE', str(cache))


@pytest.fixture
def folder(tmp_path):
    """Sixty files of words, one of them empty, one of them hidden."""
    root = tmp_path / 'texts'
    (root / 'deeper').mkdir(parents=True)
    for i in range(60):
        (root / 'deeper' / f'{i}.txt').write_text(f'file {i} says ' + f'word{i} ' * 30)
    (root / 'empty.txt').write_text(' \n')
    (root / '.hidden').write_text('secret')
    return root


def decoded(source, tokenizer):
    """The documents of a split, whole, out of its rows; `best_fit` rows that are long enough."""
    for tokens, segments in zip(source['tokens'], source['segment'], strict=True):
        yield from (tokenizer.decode(tokens[segments == n]) for n in range(1, segments.max() + 1))


def test_the_standard_library_is_split_by_file_and_complete():
    corpus = corpora.load('stdlib')
    names = {split: {document.name for document in found} for split, found in corpus.splits.items()}
    total = sum(map(len, names.values()))
    assert len(set().union(*names.values())) == total > 500
    assert not any({'test', 'site-packages'} & set(Path(name).parts) for found in names.values() for name in found)
    bytes_of = {split: sum(map(len, found)) for split, found in corpus.splits.items()}
    assert 0.7 < bytes_of['train'] / sum(bytes_of.values()) < 0.9
    assert corpus.origin.licence == 'PSF-2.0' and corpus.origin.size.endswith(' MB')
    document = corpus.splits['train'][0]
    assert document.text == (Path(corpora.sysconfig.get_paths()['stdlib']) / document.name).read_bytes()


def test_which_split_a_file_is_in_is_its_name_alone():
    for count in (60, 99):
        found = documents.split([plain(f'{i}', b'a') for i in range(count)], corpus='counted')
        assert {document.name for document in found['test']} >= {'9', '39', '49', '51', '55'}
        assert {document.name for document in found['validation']} >= {'8', '46', '47', '50', '53', '54'}


def test_a_frozen_text_stays_when_the_package_changes(monkeypatch):
    first = corpora.load('pydoc')
    changed = types.ModuleType('topics')
    changed.topics = {'assert': 'another text'}
    monkeypatch.setitem(sys.modules, 'pydoc_data.topics', changed)
    assert corpora.load('pydoc').identity == first.identity
    monkeypatch.setattr(corpora.platform, 'python_version', lambda: '9.9.9')
    assert corpora.load('pydoc').identity != first.identity
    assert corpora.load('pydoc').origin.source == 'inside Python 9.9.9'


def test_docstrings_are_read_without_an_import(monkeypatch):
    monkeypatch.setattr(corpora, 'PACKAGES', ('optax',))
    before = set(sys.modules)
    corpus = corpora.load('docstrings')
    assert not {name for name in set(sys.modules) - before if name.startswith('optax')}
    found = {document.name: document.text for each in corpus.splits.values() for document in each}
    text = found['optax/losses/_classification.py']
    assert text.startswith(b'Classification losses.') and b'Multi-Label Classification' in text
    assert b'\ndef ' not in text
    assert corpus.origin.source.startswith('inside optax ')


def test_a_folder_is_loaded_by_document(folder):
    dataset = data.load_text(f'file:{folder}', tokenizer='bytes', length=400, packing='best_fit')
    found = {split: set(decoded(source, ByteTokenizer())) for split, source in dataset.splits.items()}
    wanted = {(folder / 'deeper' / f'{i}.txt').read_bytes() for i in range(60)}
    assert found['train'] | found['validation'] | found['test'] == wanted
    assert sum(map(len, found.values())) == 60
    assert (dataset.vocabulary, dataset.length, dataset.notes) == (257, 400, ())
    assert dataset['train'].arrays.keys() == {'tokens', 'segment', 'counted', 'index'}
    assert dataset['train']['tokens'].shape[1] == 401


def test_a_single_file_is_cut_at_line_ends(tmp_path):
    path = tmp_path / 'one.txt'
    path.write_text(''.join(f'line {i}, naïve\n' for i in range(500)))
    corpus = corpora.load(f'file:{path}')
    pieces = [corpus.splits[split][0].text for split in ('train', 'validation', 'test')]
    assert b''.join(pieces) == path.read_bytes()
    assert all(piece.endswith(b'\n') for piece in pieces)
    assert [round(len(piece) / path.stat().st_size, 1) for piece in pieces] == [0.8, 0.1, 0.1]


def test_a_file_without_lines_is_cut_between_characters(tmp_path):
    path = tmp_path / 'one.txt'
    path.write_text('東京🙂é' * 100)
    pieces = [found[0].text for found in corpora.load(f'file:{path}').splits.values()]
    assert ''.join(piece.decode() for piece in pieces) == path.read_text()


def test_a_limit_keeps_a_share_of_every_split_inside_larger_ones():
    whole = corpora.load('pydoc')
    small, large = (corpora.load('pydoc', limit_bytes=size) for size in (40_000, 80_000))
    for split in whole.splits:
        texts = [b''.join(document.text for document in corpus.splits[split]) for corpus in (small, large, whole)]
        assert texts[1].startswith(texts[0]) and texts[2].startswith(texts[1])
        assert 0.7 * 40_000 / 466_000 < len(texts[0]) / len(texts[2]) < 1.05 * 40_000 / 466_000
    assert len({corpus.identity for corpus in (small, large, whole)}) == 3


def test_identity_is_stable_and_follows_corpus_tokenizer_and_length(folder):
    def identity(**changed):
        return data.load_text(f'file:{folder}', **{'tokenizer': 'bytes', 'length': 64} | changed).identity

    first = identity()
    assert identity() == first
    assert len({first, identity(length=65), identity(packing='best_fit'), identity(tokenizer='bpe:262')}) == 4
    (folder / 'deeper' / '3.txt').write_text('another text')
    assert identity() != first


def test_a_vocabulary_is_learned_from_train_once(folder, monkeypatch):
    learned = data.load_text(f'file:{folder}', tokenizer='bpe:262', length=16)
    assert learned.vocabulary == 262
    train = corpora.load(f'file:{folder}').splits['train']
    again = BPETokenizer.train([document.text for document in train], 262)
    assert learned.tokenizer.identity == again.identity
    monkeypatch.setattr(BPETokenizer, 'train', lambda *_: pytest.fail('learned again'))
    assert data.load_text(f'file:{folder}', tokenizer='bpe:262', length=16).identity == learned.identity


def test_texts_are_encoded_once(folder, monkeypatch):
    first = data.load_text(f'file:{folder}', tokenizer='bytes', length=64)
    monkeypatch.setattr(ByteTokenizer, 'encode_many', lambda *_: pytest.fail('encoded again'))
    again = data.load_text(f'file:{folder}', tokenizer='bytes', length=32)
    assert sum(map(len, again.splits.values())) > sum(map(len, first.splits.values()))


def test_a_tokenizer_of_a_checkpoint_is_read_from_its_folder(folder, tmp_path):
    BPETokenizer.train(['words of a text'], 260).save(tmp_path / 'checkpoint')
    dataset = data.load_text(f'file:{folder}', tokenizer=str(tmp_path / 'checkpoint'), length=64)
    assert dataset.vocabulary == 260
    with pytest.raises(UserError, match="tokenizer 'byte': it is neither 'bytes' nor 'bpe:SIZE', and no such file"):
        data.load_text(f'file:{folder}', tokenizer='byte', length=64)


def test_rows_for_evaluation_are_spaced_evenly(folder):
    whole = data.load_text(f'file:{folder}', tokenizer='bytes', length=32)
    part = data.load_text(f'file:{folder}', tokenizer='bytes', length=32, evaluation_rows=4)
    count = len(whole['test'])
    assert len(part['test']) == len(part['validation']) == 4
    np.testing.assert_array_equal(part['test']['tokens'], whole['test']['tokens'][np.arange(4) * count // 4])
    np.testing.assert_array_equal(part['train']['tokens'], whole['train']['tokens'])
    with pytest.raises(UserError, match=rf"evaluation_rows={count + 999} of split 'validation' .* choose from 1 to"):
        data.load_text(f'file:{folder}', tokenizer='bytes', length=32, evaluation_rows=count + 999)


def test_batches_are_a_function_of_seed_and_step(folder):
    source = data.load_text(f'file:{folder}', tokenizer='bytes', length=32)['train']
    rows = batch_indices(len(source), batch=4, seed=3, first_step=0, steps=20)
    later = batch_indices(len(source), batch=4, seed=3, first_step=13, steps=7)
    whole, resumed = (list(host_batches(source, each)) for each in (rows, later))
    for batch, again in zip(whole[13:], resumed, strict=True):
        np.testing.assert_array_equal(batch['tokens'], again['tokens'])


def test_tfds_texts_are_documents(tmp_path, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
    write_texts(tmp_path, {'train': [f'text {i} é' for i in range(60)] + ['text 0 é'], 'test': ['the test', '']})
    corpus = corpora.load('tfds:tiny_texts')
    texts = {split: [document.text.decode() for document in found] for split, found in corpus.splits.items()}
    assert texts['test'] == ['the test']
    assert sorted(texts['train'] + texts['validation']) == sorted([f'text {i} é' for i in range(60)] + ['text 0 é'])
    assert texts['validation'] and not set(texts['train']) & set(texts['validation'])
    assert corpus.origin.licence == 'CC0-1.0'


def test_tfds_without_a_text_is_named(tmp_path, monkeypatch):
    from tfds_folder import write

    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
    write(tmp_path, {'train': 20, 'test': 3})
    with pytest.raises(UserError, match="'tfds:tiny_colours' has no feature 'text' and not one Text alone; its"):
        corpora.load('tfds:tiny_colours')


def test_bytes_that_are_no_text_are_named_with_their_document(folder):
    (folder / 'deeper' / '7.txt').write_bytes(b'ok \xff')
    message = rf"document 'deeper/7.txt' of corpus 'file:{folder}': byte 0xff at position 3 is not UTF-8"
    with pytest.raises(UserError, match=message):
        data.load_text(f'file:{folder}', tokenizer=BPETokenizer.train(['some words'], 260), length=64)
    assert data.load_text(f'file:{folder}', tokenizer='bytes', length=64).vocabulary == 257


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        ('stdlibs', "unknown corpus 'stdlibs'; did you mean 'stdlib'"),
        ('file:', "corpus 'file:' lacks what follows the colon"),
        ('file:nowhere', "'nowhere' of corpus 'file:nowhere' does not exist"),
        ('file:{}/empty.txt', "empty.txt' holds no text: every document is empty"),
        ('file:{}/short.txt', "short.txt' holds too little text: nothing is left for"),
    ],
)
def test_what_is_no_corpus_is_named(folder, spec, message):
    (folder / 'short.txt').write_text('a')
    with pytest.raises(UserError, match=message):
        corpora.load(spec.format(folder))


def test_an_impossible_limit_is_named(folder):
    with pytest.raises(UserError, match=r"limit_bytes=0 of corpus 'file:.*': it must be at least 1"):
        corpora.load(f'file:{folder}', limit_bytes=0)


def test_a_text_shorter_than_a_row_is_padded(tmp_path):
    path = tmp_path / 'one.txt'
    path.write_text('a line\n' * 20)
    test = data.load_text(f'file:{path}', tokenizer='bytes', length=64)['test']
    assert len(test) == 1 and (test['segment'][0] > 0).sum() == 15 == test['counted'].sum() + 1


def test_they_are_listed():
    rows = {row.name: row for row in available()}
    assert rows['stdlib'].here and rows['pydoc'].here
    assert 'one a line' in rows['jsonl:PATH'].how
    assert rows['smollm2-135m'].here or rows['smollm2-135m'].how == 'kdjax data fetch smollm2-135m'
