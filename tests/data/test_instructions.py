"""JSONL: what is learned of an instruction, how it is written out, and the file and line of what is wrong."""

import json

import numpy as np
import pytest

from kdjax import data
from kdjax.data import instructions
from kdjax.data.tokenizers import ByteTokenizer
from kdjax.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('KDJAX_CACHE', str(tmp_path / 'cache'))


def write(path, *records):
    lines = (json.dumps(record, ensure_ascii=False) if isinstance(record, dict) else record for record in records)
    path.write_text('\n'.join(lines) + '\n')
    return path


def pairs(count, response='answer {}'):
    return [{'prompt': f'question {i}', 'response': response.format(i)} for i in range(count)]


def learned(document):
    return [text.decode() for text, counted in document.parts if counted]


def test_a_pair_is_a_chat_of_which_the_response_is_learned(tmp_path):
    (document,) = instructions.read(write(tmp_path / 'a.jsonl', {'prompt': 'Hé?', 'response': ' Yes.\n'}))
    assert document.instruction
    assert document.parts == (
        ('<|im_start|>user\nHé?<|im_end|>\n<|im_start|>assistant\n'.encode(), False),
        (b' Yes.\n<|im_end|>', True),
    )


def test_of_messages_all_that_the_assistant_says_is_learned(tmp_path):
    roles = ('system', 'user', 'assistant', 'user', 'assistant', 'user')
    messages = [{'role': role, 'content': f'{role} {i}'} for i, role in enumerate(roles)]
    path = write(tmp_path / 'a.jsonl', {'messages': messages})
    (document,) = instructions.read(path, '{role}: {content}\n\n')
    assert learned(document) == ['assistant 2', 'assistant 4']
    wanted = 'system: system 0\n\nuser: user 1\n\nassistant: assistant 2\n\nuser: user 3\n\nassistant: assistant 4'
    assert document.text.decode() == wanted


def test_written_out_for_generation_it_is_the_prompt_that_was_trained_on(tmp_path):
    (document,) = instructions.read(write(tmp_path / 'a.jsonl', *pairs(1)))
    prompt = instructions.write_out([{'role': 'user', 'content': 'question 0'}], answer=True)
    assert document.parts[0] == (prompt.encode(), False)


def test_plain_texts_are_learned_whole(tmp_path):
    (document,) = instructions.read(write(tmp_path / 'a.jsonl', {'text': 'all of it'}))
    assert learned(document) == ['all of it'] and not document.instruction


def test_loaded_they_are_rows_of_which_the_responses_count(tmp_path):
    path = write(tmp_path / 'a.jsonl', *pairs(30))
    dataset = data.load_text(f'jsonl:{path}', tokenizer='bytes', length=128, template='{role}: {content}\n')
    assert dataset.notes == ()
    said = []
    for source in dataset.splits.values():
        for tokens, counted, segment in zip(source['tokens'], source['counted'], source['segment'], strict=True):
            said += [ByteTokenizer().decode(tokens[counted & (segment == n)]) for n in range(1, segment.max() + 1)]
            assert tokens[counted & (segment == 1)][-1] == 256
    assert sorted(said) == sorted(f'answer {i}'.encode() for i in range(30))


def test_the_same_line_twice_is_in_one_split(tmp_path):
    found = instructions.splits(write(tmp_path / 'a.jsonl', *pairs(60), *pairs(60)))
    texts = {name: {document.text for document in documents} for name, documents in found.items()}
    assert sum(map(len, texts.values())) == 60
    assert all(texts.values())


def test_a_few_lines_are_dealt_out(tmp_path):
    found = instructions.splits(write(tmp_path / 'a.jsonl', *pairs(4)))
    assert {name: len(documents) for name, documents in found.items()} == {'train': 2, 'validation': 1, 'test': 1}
    with pytest.raises(UserError, match='has 2 examples: three splits need at least three'):
        instructions.splits(write(tmp_path / 'b.jsonl', *pairs(2)))


def test_a_folder_names_its_splits(tmp_path):
    for name, count in (('train', 50), ('test', 3)):
        write(tmp_path / f'{name}.jsonl', *pairs(count, f'{name} {{}}'))
    found = instructions.splits(tmp_path)
    assert sorted(learned(document)[0][:4] for document in found['test']) == ['test'] * 3
    assert len(found['train']) + len(found['validation']) == 50 and found['validation']
    write(tmp_path / 'validation.jsonl', *pairs(2, 'validation {}'))
    assert {name: len(documents) for name, documents in instructions.splits(tmp_path).items()} == {
        'train': 50,
        'validation': 2,
        'test': 3,
    }
    (tmp_path / 'train.jsonl').unlink()
    with pytest.raises(UserError, match=r'holds no train\.jsonl'):
        instructions.splits(tmp_path)


def test_a_prompt_longer_than_the_context_is_left_out_and_said(tmp_path):
    long = {'prompt': 'q' * 200, 'response': 'never seen'}
    path = write(tmp_path / 'train.jsonl', *pairs(5), long, {'prompt': 'q', 'response': 'a' * 200})
    for split in ('validation', 'test'):
        write(tmp_path / f'{split}.jsonl', *pairs(2))
    with pytest.warns(UserWarning, match='train') as said:
        dataset = data.load_text(f'jsonl:{tmp_path}', tokenizer='bytes', length=128)
    assert dataset.notes == (
        '1 of train left out, their prompts leave no room in rows of length=128',
        '1 of train have responses cut off at length=128',
    )
    assert [str(each.message) for each in said] == [f"corpus 'jsonl:{tmp_path}': {note}" for note in dataset.notes]
    text = ByteTokenizer().decode(dataset['train']['tokens'].ravel())
    assert b'never seen' not in text and path.is_file()


def test_prompts_that_are_all_too_long_are_an_error(tmp_path):
    path = write(tmp_path / 'a.jsonl', *pairs(20))
    with pytest.raises(UserError, match=r'corpus .*: all tokens are masked in every row of length=8: of'):
        data.load_text(f'jsonl:{path}', tokenizer='bytes', length=8)


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('{"prompt": "a"', 'not JSON'),
        ('[1]', 'list instead of an object like'),
        ('{"prompt": "a", "answer": "b"}', r"keys \['answer', 'prompt'\]; wanted"),
        ('{"prompt": "a", "response": " "}', 'response is empty: fill it in or remove the line'),
        ('{"text": ""}', 'text is empty'),
        ('{"text": 3}', 'text must be a text, not int'),
        ('{"messages": []}', '"messages" must be a list of messages'),
        ('{"messages": [{"role": "user"}]}', 'message 0 must be an object with "role" and "content"'),
        ('{"messages": [{"role": "human", "content": "a"}]}', "message 0 has the role 'human'; known: system, user"),
        ('{"messages": [{"role": "user", "content": "a"}]}', 'no message of the assistant'),
        ('{"text": "a\\ud800"}', 'half of a surrogate pair'),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = write(tmp_path / 'a.jsonl', *pairs(1), '', line)
    with pytest.raises(UserError, match=rf'a\.jsonl:3: .*{message}'):
        instructions.read(path)


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / 'a.jsonl'
    path.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    with pytest.raises(UserError, match=r'a\.jsonl:2: byte 0xff at position 10 is not UTF-8'):
        instructions.read(path)


@pytest.mark.parametrize('template', ['{role}: ', '{content}{content}', '{content} {role}', '{role}{role}{content}'])
def test_a_bad_template_is_named(template, tmp_path):
    with pytest.raises(UserError, match=r'it needs \{content\} once, and \{role\} at most once, before it'):
        instructions.read(write(tmp_path / 'a.jsonl', *pairs(1)), template)


def test_a_stream_of_instructions_is_refused(tmp_path):
    path = write(tmp_path / 'a.jsonl', *pairs(20))
    with pytest.raises(UserError, match="would part responses from their prompts: use 'best_fit'"):
        data.load_text(f'jsonl:{path}', tokenizer='bytes', length=64, packing='stream')


def test_the_mark_that_ends_a_response_is_learned_once(tmp_path):
    """Where a tokenizer ends texts with ChatML's own mark, no second one follows."""
    from kdjax.data.tokenizers import BPETokenizer

    tokenizer = BPETokenizer.train(['<|im_start|> text ' * 3, 'question answer'], 280)
    tokenizer.inner.add_special_tokens(['<|im_end|>'])
    tokenizer = BPETokenizer.from_json(tokenizer.inner.to_str(), {'eos_token': '<|im_end|>'})
    path = write(tmp_path / 'a.jsonl', *pairs(30))
    dataset = data.load_text(f'jsonl:{path}', tokenizer=tokenizer, length=256)
    source = dataset['test']
    labels = np.sum(source['counted'] & (source['tokens'] == tokenizer.eos))
    assert labels == sum(segments.max() for segments in source['segment'])
