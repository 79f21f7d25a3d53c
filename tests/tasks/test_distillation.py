"""A teacher with the student's weights under other ids, or with a padded embedding, is the student: nothing is lost."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data.tokenizers import BPETokenizer
from kdjax.errors import UserError
from kdjax.models.decoder import DecoderConfig, decoder
from kdjax.tasks.checkpoints import Loaded
from kdjax.tasks.distillation import Distillation, load_data
from kdjax.tasks.measuring import measured
from kdjax.tasks.objective_text import read_objective
from kdjax.tasks.words import shared_words

TEXT = ''.join(f'def f{i}(x):\n    return {i} * x + {i % 7}\n\n\n' for i in range(60))
WORDS = 265
TOKENIZER = BPETokenizer.train([TEXT], WORDS)
CONFIG = DecoderConfig(WORDS, 8, 1, 2, 12, context=32)
KEY = jax.random.key(0)
LONG_PROMPTS = ''.join(f'{{"prompt": "{"x = 1; " * 40}{i}", "response": "y"}}\n' for i in range(30))


def student():
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(decoder(CONFIG).init, KEY, None)
    weights = jax.tree.map(lambda leaf: jnp.asarray(0.5 * rng.standard_normal(leaf.shape), jnp.float32), shapes)
    return Loaded('student', CONFIG, decoder(CONFIG), weights, 'student', TOKENIZER)


def with_table(table, tokenizer):
    """The student as a teacher whose embedding is this."""
    config = DecoderConfig(len(table), 8, 1, 2, 12, context=32)
    params = student().variables['params'] | {'embedding': {'table': table}}
    return Loaded('teacher', config, decoder(config), {'params': params, 'stats': {}}, 'teacher', tokenizer)


def padded():
    table = student().variables['params']['embedding']['table']
    return with_table(jnp.concatenate([table, 3 * table[:7]]), TOKENIZER)


def turned():
    """Ids from the last to the first."""
    description = json.loads(TOKENIZER.inner.to_str())
    ids = {token: WORDS - 1 - i for token, i in description['model']['vocab'].items()}
    description['model']['vocab'] = ids
    for token in description['added_tokens']:
        token['id'] = ids[token['content']]
    theirs = BPETokenizer.from_json(json.dumps(description), TOKENIZER.settings)
    return with_table(student().variables['params']['embedding']['table'][::-1], theirs)


def work(teacher, vocab, tmp_path, monkeypatch, objective='kl_forward'):
    monkeypatch.setenv('KDJAX_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'text.py').write_text(TEXT)
    words = shared_words(teacher, student(), vocab=vocab)
    data = load_data(str(tmp_path / 'text.py'), teacher, student(), words, length=16, rows=2)
    spec = read_objective(objective)
    return Distillation(teacher=teacher, student=student(), words=words, data=data, spec=spec, steps=40, batch=2)


@pytest.mark.parametrize(('teacher', 'vocab'), [(padded, 'pad'), (turned, 'intersect')], ids=['pad', 'intersect'])
def test_a_student_that_is_its_teacher_in_other_words(teacher, vocab, tmp_path, monkeypatch):
    made = work(teacher(), vocab, tmp_path, monkeypatch, 'kl_forward+labels:0.5')
    batch = made.data['train'].take(np.arange(2))
    state = jax.jit(made.algorithm.init)(KEY, made.frozen(), batch)
    state = state | {'variables': {'student': made.start(KEY)}}
    said = jax.jit(made.algorithm.evaluate)(state, made.frozen(), batch, KEY)
    found = measured({name: np.asarray(values) for name, values in said.items()})
    assert found['kl'] == pytest.approx(0, abs=1e-5) and found['agreement'] == 1
    if vocab == 'intersect':
        assert found['teacher_nll'] == pytest.approx(found['nll'], rel=1e-5)
    _, metrics = jax.jit(made.algorithm.step)(state, made.frozen(), batch, KEY)
    assert metrics['student/kl_forward'] == pytest.approx(0, abs=1e-5)
    assert metrics['student/labels'] == pytest.approx(found['nll'], rel=1e-5)


def test_other_texts_than_the_tokenizers_agree_on(tmp_path, monkeypatch):
    other = BPETokenizer.train([TEXT.upper()], WORDS)
    teacher = with_table(student().variables['params']['embedding']['table'], other)
    with pytest.raises(UserError, match='has other tokens for the teacher than for the student'):
        work(teacher, 'intersect', tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ('name', 'content', 'said'),
    [
        ('a.txt', '', 'holds no text'),
        ('a.txt', b'a = 1\n' * 50 + b'\xff', 'byte 0xff at position .* is not UTF-8'),
        ('a.jsonl', '{"prompt": "x"}\n', r"a.jsonl:1: keys \['prompt'\]"),
        ('a.jsonl', LONG_PROMPTS, 'all tokens are masked in every row of length=16'),
    ],
)
def test_data_that_cannot_be_learned_from(name, content, said, tmp_path, monkeypatch):
    monkeypatch.setenv('KDJAX_CACHE', str(tmp_path / 'cache'))
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    words = shared_words(student(), student())
    with pytest.raises(UserError, match=said):
        load_data(str(tmp_path / name), student(), student(), words, length=16, rows=2)
