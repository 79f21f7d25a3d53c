"""Which words of two models are compared, and what is said where they cannot be."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data.dataset import ArraySource, Origin
from kdjax.data.documents import plain
from kdjax.data.text import TextDataset
from kdjax.data.tokenizers import BPETokenizer, ByteTokenizer
from kdjax.errors import UserError
from kdjax.models.decoder import DecoderConfig, decoder
from kdjax.tasks.checkpoints import Loaded
from kdjax.tasks.words import check_cuts, check_known, shared_words

TEXTS = ['def f(x): return x + 1\n' * 9, 'for word in words: say(word, 2026)\n' * 9]


def trained(size, texts=tuple(TEXTS)):
    return BPETokenizer.train(texts, size)


LARGE, OTHER = trained(280), trained(270, ('entirely other texts, with other pairs of letters ' * 9,))


def loaded(vocabulary, tokenizer, said='model'):
    config = DecoderConfig(vocabulary, 8, 1, 2, 8)
    return Loaded(said, config, decoder(config), {}, 'none', tokenizer)


def turned(tokenizer):
    """The same tokenizer, with its ids in another order."""
    description = dict(tokenizer._description)
    vocabulary = description['model']['vocab']
    ids = {token: len(vocabulary) - 1 - i for token, i in vocabulary.items()}
    description['model'] = description['model'] | {'vocab': ids}
    description['added_tokens'] = [t | {'id': ids[t['content']]} for t in description['added_tokens']]
    return BPETokenizer.from_json(json.dumps(description), tokenizer.settings)


def refused(said, *arguments, **options):
    with pytest.raises(UserError, match=re.escape(said)):
        shared_words(*arguments, **options)


def test_one_vocabulary_is_compared_whole():
    words = shared_words(loaded(280, LARGE), loaded(280, trained(280)))
    assert (words.vocab, words.ids, words.teacher_ids) == ('error', None, None)


def test_a_tokenizer_that_one_of_them_has_is_both_of_theirs():
    assert shared_words(loaded(280, LARGE), loaded(280, None)).tokenizer is LARGE
    assert shared_words(loaded(280, None), loaded(280, LARGE)).tokenizer is LARGE


def test_padding_of_an_embedding_is_cut():
    teacher, student = loaded(288, LARGE), loaded(280, LARGE)
    refused('teacher has 288 tokens, student 280: pass --vocab pad', teacher, student)
    words = shared_words(teacher, student, vocab='pad')
    ours, theirs = words.cut(jnp.zeros((280, 8)), jnp.ones((288, 4)))
    assert (ours.shape, theirs.shape) == ((280, 8), (280, 4))


@pytest.mark.parametrize('vocab', ['error', 'pad'])
def test_other_tokenizers_are_refused(vocab):
    said = 'the tokenizers of the teacher (280 tokens) and of the student (270) are not the same'
    refused(said, loaded(280, LARGE), loaded(270, OTHER), vocab=vocab)


def test_no_tokenizer_at_all():
    refused("neither 'model' nor 'pupil' has a tokenizer", loaded(9, None), loaded(9, None, 'pupil'))


def test_the_tokenizer_of_a_larger_model():
    refused("the tokenizer has 280 tokens, the student 'model' 270", loaded(280, LARGE), loaded(270, LARGE))
    refused('the tokenizer has 257 tokens', loaded(9, None), loaded(300, None), tokenizer=ByteTokenizer())


def test_the_same_words_under_other_ids_intersect():
    theirs = turned(LARGE)
    words = shared_words(loaded(280, theirs), loaded(280, LARGE), vocab='intersect')
    check_cuts(words, theirs, [plain('a', TEXTS[0].encode())])
    said = LARGE.encode(TEXTS[1])
    np.testing.assert_array_equal(words.teacher_ids[said], theirs.encode(TEXTS[1]))
    heads = words.cut(jnp.arange(280.0)[:, None], 279 - jnp.arange(280.0)[:, None])
    np.testing.assert_array_equal(*heads)


def test_texts_that_are_cut_in_another_way_are_refused():
    words = shared_words(loaded(270, OTHER), loaded(280, LARGE), vocab='intersect')
    with pytest.raises(UserError, match="document 'a' has other tokens for the teacher than for the student"):
        check_cuts(words, OTHER, [plain('a', TEXTS[0].encode())])


def test_tokens_that_the_teacher_lacks_are_counted():
    words = shared_words(loaded(280, LARGE), loaded(280, LARGE), vocab='intersect')
    table = words.teacher_ids.copy()
    table[[3, 4]] = -1
    column = {'tokens': np.array([[3, 4, 5, 3]]), 'segment': np.array([[1, 1, 1, 0]])}
    data = TextDataset(
        name='rows', splits={'train': ArraySource(column)}, identity='', origin=Origin('', '', ''), tokenizer=LARGE,
        length=3,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"2 of 3 tokens of split 'train' are none of the teacher's"):
        check_known(dataclasses.replace(words, teacher_ids=table), data)

