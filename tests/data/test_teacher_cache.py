"""A cache on disk: written by many, killed and resumed, joined to its split; and every cache that is refused."""

import dataclasses
import json
import signal
import subprocess
import sys
import threading
import time

import cache_writer
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cache_writer import PLAN, ROWS, SOURCE, VOCABULARY, answers, speak, write

from kdjax.data.batches import host_batches
from kdjax.data.dataset import ArraySource
from kdjax.data.teacher_cache import (
    Hidden,
    Plan,
    Sampled,
    TopK,
    answering,
    bytes_per_token,
    compress,
    keep_hidden,
    open_cache,
    write_cache,
)
from kdjax.errors import UserError
from kdjax.streams import stream

MADE_BY = {'teacher': PLAN.teacher, 'data': PLAN.data}


def content(folder):
    """Every file but those that are hidden, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith('.')}


def started(folder, *, seconds=0.0, process=0, processes=1):
    arguments = map(str, (folder, seconds, process, processes))
    return subprocess.Popen([sys.executable, cache_writer.__file__, *arguments])


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A cache that one process wrote without interruption."""
    folder = tmp_path_factory.mktemp('whole')
    assert write(folder)
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    for name, data in content(whole).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_every_row_is_what_the_teacher_said(whole):
    cache = open_cache(whole, **MADE_BY, tokenizer='bytes')
    assert len(cache) == ROWS
    rows = np.array([22, 0, 7, 7])
    got = cache.take(rows)
    key = stream(jax.random.key(PLAN.seed), 'teacher cache')
    told = jax.jit(lambda logits, row: compress(PLAN.kind, logits, key=jax.random.fold_in(key, row)))
    for place, row in enumerate(rows):
        said = told(speak({'tokens': jnp.asarray(SOURCE['tokens'][row])[None]})[0], row)
        np.testing.assert_array_equal(got['teacher_ids'][place], said.ids)
        np.testing.assert_allclose(got['teacher_probs'][place], said.probs, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(got['teacher_entropy'][place], said.entropy, rtol=1e-3)
        np.testing.assert_allclose(got['teacher_log_normalizer'][place], said.log_normalizer, rtol=1e-3)


def test_a_joined_split_has_both_columns_and_feeds_batches(whole):
    joined = open_cache(whole, **MADE_BY).joined(SOURCE)
    assert (len(joined), joined.arrays) == (ROWS, None)
    batches = list(host_batches(joined, np.array([[3, 20, 3], [0, 1, 2]])))
    np.testing.assert_array_equal(batches[0]['tokens'], SOURCE['tokens'][[3, 20, 3]])
    assert batches[0]['index'].tolist() == [3, 20, 3]
    assert batches[1]['teacher_probs'].shape == (3, PLAN.length, 9)
    np.testing.assert_array_equal(batches[0]['teacher_ids'][0], batches[0]['teacher_ids'][2])


def test_threads_may_read_at_once(whole):
    cache = open_cache(whole, **MADE_BY)
    expected, got = cache.take(np.arange(ROWS))['teacher_ids'], {}

    def read(thread):
        got[thread] = cache.take(np.arange(ROWS))['teacher_ids']

    threads = [threading.Thread(target=read, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((ids == expected).all() for ids in got.values())
    assert len(got) == 4


def test_many_processes_write_the_same_cache(whole, tmp_path):
    assert [write(tmp_path, process=p, processes=3) for p in (2, 0, 1)] == [False, False, True]
    assert content(tmp_path) == content(whole)


def test_processes_that_write_at_once_do_not_disturb_each_other(whole, tmp_path):
    writers = [started(tmp_path, process=process, processes=2) for process in range(2)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    assert content(tmp_path) == content(whole)


def test_a_killed_writer_is_resumed(whole, tmp_path):
    """Killed in the middle of a shard, by a signal that nothing can catch: the result is that of a whole run."""
    writer = started(tmp_path, seconds=0.2)
    try:
        deadline = time.monotonic() + 120
        while not (list(tmp_path.glob('shard-00001.json')) and list(tmp_path.glob('.shard-00002*.partial'))):
            assert writer.poll() is None, 'it ended by itself'
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert set(content(tmp_path)) < set(content(whole))
    with pytest.raises(UserError, match=r'is not finished: 13 of 23 rows are missing, in 3 of 5 shards; run the comm'):
        open_cache(tmp_path, **MADE_BY)
    asked = []

    def answer(batch):
        asked.extend(batch['index'].tolist())
        return answers(PLAN.kind, PLAN.seed)(batch)

    assert write(tmp_path, answer=answer)
    assert min(asked) == 10
    assert content(tmp_path) == content(whole)
    assert not list(tmp_path.glob('.*partial'))


def test_progress_is_told_shard_by_shard(tmp_path):
    said = []
    write(tmp_path, process=1, processes=2, on_shard=lambda *numbers: said.append(numbers))
    assert said == [(1, 2), (2, 2)]


def test_the_manifest_says_what_the_cache_is(whole):
    manifest = json.loads((whole / 'manifest.json').read_text())
    assert manifest['kind'] == {'kind': 'hybrid', 'slots': 9, 'bits': 8, 'temperature': 1.0}
    assert (manifest['teacher'], manifest['data'], manifest['tokenizer']) == ('teacher 1', 'corpus/train', 'bytes')
    assert (manifest['rows'], manifest['length'], manifest['vocabulary']) == (23, 6, 40)
    assert [shard['rows'] for shard in manifest['shards']] == [5, 5, 5, 5, 3]
    assert all(len(shard['sha256']) == 64 for shard in manifest['shards'])
    assert manifest['bytes_per_token'] == open_cache(whole, **MADE_BY).bytes_per_token
    assert 4 < manifest['bytes_per_token'] < bytes_per_token(PLAN.kind, VOCABULARY) + 0.2


@pytest.mark.parametrize(('kind', 'slots'), [(TopK(4), 4), (Sampled(5), 5), (Sampled(5, power=0.8), 5)], ids=str)
def test_other_kinds_on_disk(kind, slots, tmp_path):
    plan = dataclasses.replace(PLAN, kind=kind)
    assert write(tmp_path, plan=plan)
    cache = open_cache(tmp_path, **MADE_BY)
    assert cache.plan == plan
    got = cache.take(np.arange(ROWS))
    assert got['teacher_ids'].shape == (ROWS, PLAN.length, slots)
    assert got['teacher_ids'].max() < VOCABULARY


def test_hidden_states_on_disk(tmp_path):
    plan = dataclasses.replace(PLAN, kind=Hidden(3))
    hidden = jax.random.normal(jax.random.key(0), (ROWS, PLAN.length, 3))

    def states(batch):
        return hidden[batch['index']], speak(batch)

    assert write(tmp_path, plan=plan, answer=answering(plan.kind, states, seed=0))
    got = open_cache(tmp_path, **MADE_BY).take(np.array([4, 22]))
    kept = keep_hidden(hidden[np.array([4, 22])], jnp.zeros((2, PLAN.length, 4)))
    np.testing.assert_array_equal(got['teacher_hidden'], np.asarray(kept.hidden))
    assert set(got) == {'teacher_hidden', 'teacher_log_normalizer', 'teacher_entropy'}


OTHERS = {
    'teacher': r"made for another teacher: teacher 1 there, mine now; give the teacher it was made for, or write",
    'data': r'made for another data: corpus/train there, mine now',
    'tokenizer': r'made for another tokenizer: bytes there, mine now',
}


@pytest.mark.parametrize('what', OTHERS)
def test_a_cache_made_for_another_is_refused(whole, what):
    with pytest.raises(UserError, match=OTHERS[what]):
        open_cache(whole, **(MADE_BY | {what: 'mine'}))


def test_no_cache_is_refused(tmp_path):
    with pytest.raises(UserError, match='holds no teacher cache: write one there first'):
        open_cache(tmp_path, **MADE_BY)


def test_a_flipped_bit_is_found_and_the_remedy_works(copy, whole):
    path = copy / 'shard-00002.array_record'
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"shard-00002.array_record' is damaged .*: delete it, shard-00002.json "):
        open_cache(copy, **MADE_BY)
    for name in ('shard-00002.array_record', 'shard-00002.json', 'manifest.json'):
        (copy / name).unlink()
    assert write(copy)
    assert content(copy) == content(whole)


@pytest.mark.parametrize('verify', [True, False])
def test_a_shard_cut_short_is_found(copy, verify):
    path = copy / 'shard-00004.array_record'
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"shard-00004.array_record' has \d+ bytes, not \d+: delete it"):
        open_cache(copy, **MADE_BY, verify=verify)


def test_a_missing_shard_is_found(copy):
    (copy / 'shard-00000.array_record').unlink()
    with pytest.raises(UserError, match=r"shard-00000.array_record' is missing"):
        open_cache(copy, **MADE_BY)


def test_a_manifest_that_is_no_json_is_found(copy):
    (copy / 'manifest.json').write_text('{')
    with pytest.raises(UserError, match=r"manifest.json' cannot be read \(.*\): make the cache again"):
        open_cache(copy, **MADE_BY)


def test_a_later_version_is_refused(copy):
    plan = json.loads((copy / 'plan.json').read_text())
    (copy / 'plan.json').write_text(json.dumps(plan | {'version': 2}))
    with pytest.raises(UserError, match='is of version 2, this kdjax reads 1'):
        open_cache(copy, **MADE_BY)


def test_writing_into_another_cache_is_refused(copy):
    with pytest.raises(UserError, match=r"holds another cache \(seed: 5 there, 6 now\): choose another folder"):
        write(copy, plan=dataclasses.replace(PLAN, seed=6))


REFUSED = {
    'rows': (
        lambda folder: write(folder, plan=dataclasses.replace(PLAN, rows=9)),
        'the plan has 9 rows, the split 23: make the plan for this split',
    ),
    'process': (lambda folder: write(folder, process=2, processes=2), 'process 2 of 2: count them from 0'),
    'length': (
        lambda folder: write(folder, plan=dataclasses.replace(PLAN, length=7)),
        r'the teacher answered \[3, 6\] \[batch, length\], the plan has \[3, 7\]',
    ),
    'vocabulary': (
        lambda folder: write(folder, plan=dataclasses.replace(PLAN, vocabulary=20)),
        r'the teacher has class 3\d, the plan a vocabulary of 20',
    ),
    'not finite': (
        lambda folder: write(folder, answer=answering(PLAN.kind, lambda batch: speak(batch) * jnp.nan, seed=0)),
        'logits that are not finite: check its weights',
    ),
    'no rows': (lambda folder: dataclasses.replace(PLAN, rows=0), 'a cache of 0 rows of 6 tokens'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refused(case, tmp_path):
    attempt, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        attempt(tmp_path)


def test_a_file_in_the_way(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=r"the cache '.*file' cannot be made \(.*\): choose a folder you own"):
        write(tmp_path / 'file')


def test_uniform_logits_warn(tmp_path):
    flat = answering(PLAN.kind, lambda batch: jnp.zeros_like(speak(batch)), seed=0)
    with pytest.warns(UserWarning, match='every class the same probability: are its weights loaded'):
        write(tmp_path, answer=flat)


def test_a_cache_is_joined_to_its_own_split(whole):
    cache = open_cache(whole, **MADE_BY)
    with pytest.raises(UserError, match='has 23 rows, the split 4: join the split that it was made for'):
        cache.joined(ArraySource({'tokens': SOURCE['tokens'][:4]}))
    with pytest.raises(UserError, match=r"row 23 is not in the cache '.*' of 23 rows"):
        cache.take(np.array([0, 23]))


def test_a_plan_is_what_its_description_says(tmp_path):
    plan = Plan(Sampled(7), vocabulary=300, rows=ROWS, length=6, teacher='t', data='d', tokenizer='x')
    write_cache(tmp_path, SOURCE, answering(plan.kind, speak, seed=0), plan)
    assert open_cache(tmp_path, teacher='t', data='d').plan == plan
