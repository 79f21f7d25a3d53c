"""`kdjax distill` from a checkpoint to a checkpoint: stopped and gone on with, exported, refused wrong input."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.cli.main import main
from kdjax.data.tokenizers import BPETokenizer
from kdjax.models.checkpoints import load, write_checkpoint
from kdjax.models.decoder import DecoderConfig, decoder, gpt2_config
from kdjax.models.encoder import EncoderConfig, encoder

WORDS = 270
TEACHER = DecoderConfig(WORDS, 16, 3, 4, 24, kv_heads=2, context=64, tied=False)
TINY = ('--steps', 6, '--batch', 4, '--length', 16, '--log-every', 3, '--evaluations', 3, '--evaluation-rows', 3)
LINES = ''.join(f'def f{i}(x):\n    return {i} * x + {i % 7}\n\n\n' for i in range(150))


def weights(model, seed=0, scale=0.5):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), None)
    return jax.tree.map(lambda leaf: jnp.asarray(scale * rng.standard_normal(leaf.shape), jnp.float32), shapes)


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """Teachers and a text."""
    home = tmp_path_factory.mktemp('home')
    (home / 'text.py').write_text(LINES)
    save = BPETokenizer.train([LINES], WORDS).save
    write_checkpoint(TEACHER, weights(decoder(TEACHER)), home / 'teacher', beside=save)
    write_checkpoint(TEACHER, weights(decoder(TEACHER), scale=0.0), home / 'untrained', beside=save)
    return home


@pytest.fixture
def distil(home, monkeypatch, capfd):
    """Exit code, standard output, standard error."""
    for name in ('HOME', 'CACHE', 'STORE'):
        monkeypatch.setenv(f'KDJAX_{name}', str(home / name.lower()))
    monkeypatch.chdir(home)

    def call(*options, out='run', **given):
        said = {'teacher': 'teacher', 'student': 'shrink:layers=2', 'data': 'text.py'} | given
        named = [part for name, value in said.items() for part in (f'--{name}', value)]
        code = main(['distill', *map(str, [*named, '--out', out, *TINY, *options])])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def refused(distil, home):
    """What is said, before anything is written."""

    def call(*options, **given):
        code, _, err = distil(*options, out='refused', **given)
        assert code == 1 and 'Traceback' not in err, err
        assert not (home / 'refused').exists()
        return err

    return call


def logits(folder, tokens):
    model, variables, _ = load(folder)
    said = jax.jit(lambda v: model.apply(v, tokens, key=jax.random.key(0), train=False)[0].prediction)
    return said(variables)


@pytest.mark.slow
def test_stopped_by_a_signal_it_goes_on_to_the_same_student(distil, signalled, home):
    objective = ('--objective', 'jsd:beta=0.5+labels:0.5')
    code, out, err = distil(*objective)
    assert code == 75 and 'asked to stop: saving step 4 of 6' in err
    assert 'memory on each device' in out and '384 tokens: 6 steps of 4 rows of 16' in out
    assert not (home / 'run' / 'student').exists()
    code, out, err = distil(*objective)
    assert code == 0 and 'going on from step 4 of 6' in err and 'tokens/s' in err
    assert distil(*objective, out='whole')[0] == 0
    cut, whole = (json.loads((home / run / 'result.json').read_text()) for run in ('run', 'whole'))
    assert cut['state_sha256'] == whole['state_sha256']
    for part in ('start', 'student', 'teacher', 'curves'):
        assert cut[part] == whole[part]
    assert cut['curves']['step'] == [2, 4, 6]
    assert cut['student']['test']['kl'] < cut['start']['test']['kl']
    assert set(cut['teacher']['test']) == {'nll', 'perplexity', 'accuracy', 'ece'}
    assert set(cut['student']['test']) == {*cut['teacher']['test'], 'kl', 'agreement'}
    assert out.split()[-1] == cut['state_sha256']

    tokenizer = BPETokenizer.from_file(home / 'run' / 'student')
    assert tokenizer.identity == BPETokenizer.from_file(home / 'teacher').identity
    settings = json.loads((home / 'run' / 'student' / 'config.json').read_text())
    assert settings['num_hidden_layers'] == 2 and settings['eos_token_id'] == tokenizer.eos

    code, _, err = distil(*objective, '--learning-rate', 1)
    assert code == 1 and 'belongs to another run (learning_rate: 0.0003 there, 1.0 now)' in err


@pytest.mark.slow
def test_adapters_are_merged_into_what_is_written_and_a_teacher_that_says_nothing_is_warned_of(distil, home):
    options = ('--lora', 2, '--accumulate', 2, '--objective', 'kl_reverse', '--evaluations', 0)
    code, _, err = distil(*options, out='adapted', teacher='untrained', student='teacher')
    assert code == 0, err
    assert "the teacher 'untrained' gives all tokens about the same probability: is it trained" in err
    tokens = jnp.arange(12, dtype=jnp.int32)[None]
    before, after = logits(home / 'teacher', tokens), logits(home / 'adapted' / 'student', tokens)
    assert before.shape == after.shape and 1e-5 < jnp.abs(before - after).max() < 0.5
    result = json.loads((home / 'adapted' / 'result.json').read_text())
    assert result['teacher']['test']['nll'] == pytest.approx(np.log(WORDS))
    assert result['student']['test']['kl'] < result['start']['test']['kl']
    assert result['curves'] == {'step': []}


def test_a_plan_without_a_run(distil, home):
    code, out, _ = distil('--dry-run', out='planned')
    assert code == 0 and not (home / 'planned').exists()
    assert 'teacher weights' in out and 'FLOPs' in out and 'rows, read' in out


@pytest.mark.parametrize(
    ('options', 'given', 'said'),
    [
        ([], {'teacher': 'nowhere'}, "no folder or file and no asset called 'nowhere'"),
        ([], {'teacher': 'text.py'}, 'text.py'),
        ([], {'student': 'shrink:layers=9'}, 'layers=9: the decoder has 3, choose from 1 to that'),
        ([], {'student': 'shrink:depth=2'}, 'write layers=N, heads=N, hidden=N, width=N'),
        ([], {'data': 'nowhere'}, "unknown corpus 'nowhere'"),
        (['--objective', 'kl'], {}, "unknown divergence of the objective 'kl' 'kl'"),
        (['--length', '65'], {}, "length=65: the context of the teacher 'teacher' is 64 tokens"),
        (['--tokenizer', 'nowhere'], {}, "no asset called 'nowhere'"),
        (['--steps', '0'], {}, '--steps 0: at least 1'),
        (['--lora', '-1'], {}, '--lora -1: 0 for none'),
        (['--learning-rate', 'nan'], {}, '--learning-rate nan: it has to be positive'),
        (['--resume', 'last'], {}, "--resume 'last': give auto, never, or the step of a checkpoint"),
        (['--accumulate', '3', '--dry-run'], {}, 'accumulate=3 does not divide a batch of 4'),
    ],
)
def test_wrong_input_is_told_before_anything_is_written(options, given, said, refused):
    assert said in refused(*options, **given)


def test_a_model_of_another_kind_is_refused(refused, home):
    config = EncoderConfig(WORDS, 16, 1, 2, 24, context=32)
    write_checkpoint(config, weights(encoder(config)), home / 'encoder')
    assert "'encoder' is BertModel, no language model that says the next token" in refused(teacher='encoder')


def test_a_model_with_another_tokenizer_is_refused(refused, home):
    shutil.copytree(home / 'teacher', home / 'other', dirs_exist_ok=True)
    BPETokenizer.train([LINES.upper()], WORDS - 6).save(home / 'other')
    assert f'the tokenizers of the teacher ({WORDS} tokens) and of the student ({WORDS - 6}) are not' in refused(
        student='other'
    )


def test_a_student_of_no_public_form_is_refused(refused, home):
    config = gpt2_config(WORDS, 16, 2, 4, context=32)
    save = BPETokenizer.from_file(home / 'teacher').save
    write_checkpoint(config, weights(decoder(config)), home / 'gpt2', beside=save)
    assert "no public architecture's form: cut layers or hidden alone" in refused(
        teacher='gpt2', student='shrink:width=8'
    )


def test_a_folder_that_a_run_would_remove_is_left(distil, home):
    shutil.copytree(home / 'teacher', home / 'mine' / 'student')
    code, _, err = distil(out='mine')
    assert code == 1 and 'is already there, and no run has made it: choose another --out' in err
    assert (home / 'mine' / 'student' / 'model.safetensors').exists()
