"""What `kdjax distill` writes is loaded by transformers, with its tokenizer, and says the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import their_library

from kdjax.data import load_text
from kdjax.data.tokenizers import BPETokenizer
from kdjax.models.checkpoints import write_checkpoint
from kdjax.models.decoder import DecoderConfig, decoder
from kdjax.tasks.checkpoints import load_decoder, load_student
from kdjax.tasks.distillation import Distillation
from kdjax.tasks.objective_text import read_objective
from kdjax.tasks.words import shared_words

torch = pytest.importorskip('torch')
transformers = their_library.transformers()
pytestmark = pytest.mark.filterwarnings('ignore')

TEXT = ''.join(f'def f{i}(x):\n    return {i} * x + {i % 7}\n\n\n' for i in range(150))
TEACHER = DecoderConfig(270, 16, 4, 4, 24, kv_heads=2, context=64, tied=False)


@pytest.mark.parametrize('adapters', [0, 2], ids=['all weights', 'adapters'])
def test_the_student_and_its_tokenizer(adapters, tmp_path, monkeypatch):
    monkeypatch.setenv('KDJAX_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'text.py').write_text(TEXT)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(decoder(TEACHER).init, jax.random.key(0), None)
    weights = jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), jnp.float32), shapes)
    write_checkpoint(TEACHER, weights, tmp_path / 'teacher', beside=BPETokenizer.train([TEXT], 270).save)

    teacher = load_decoder(str(tmp_path / 'teacher'))
    student = load_student('shrink:layers=2,hidden=16,heads=2', teacher)
    words = shared_words(teacher, student)
    work = Distillation(
        teacher=teacher, student=student, words=words, spec=read_objective('kl_forward'), steps=1, batch=1,
        adapters=adapters, data=load_text(f'file:{tmp_path / "text.py"}', tokenizer=words.tokenizer, length=16),
    )  # fmt: skip
    folder = work.export(work.start(jax.random.key(0)), tmp_path / 'student')

    ids = transformers.AutoTokenizer.from_pretrained(folder)(TEXT[:80]).input_ids
    assert ids == words.tokenizer.encode(TEXT[:80]).tolist()
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report[problem] for problem in ('missing_keys', 'unexpected_keys', 'mismatched_keys'))
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits.numpy()
    ours = jax.jit(lambda v, x: student.model.apply(v, x, key=jax.random.key(0), train=False)[0].prediction)
    np.testing.assert_allclose(ours(student.variables, jnp.asarray([ids], jnp.int32)), expected, atol=1e-4)
    assert theirs.config.eos_token_id == words.tokenizer.eos
