"""docs/conventions.md says how other tools' betas translate; where the tool installs, it is run."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.losses.pointwise import jsd, kl_forward, kl_reverse

torch = pytest.importorskip('torch')

LABELS = np.array([[3, 1, -100, 0], [2, 2, 5, 6]])


@pytest.fixture(scope='module')
def logits():
    draw = np.random.default_rng(3)
    return draw.normal(size=(2, 4, 7)).astype(np.float32), 2 * draw.normal(size=(2, 4, 7)).astype(np.float32)


def ours(divergence, logits, temperature):
    """The mean over the tokens that count, without T^2."""
    student, teacher = (jnp.asarray(z) / temperature for z in logits)
    log_s, log_p = (z - jnp.log(jnp.sum(jnp.exp(z), -1, keepdims=True)) for z in (student, teacher))
    values = jnp.sum(divergence(log_p, log_s)[0], axis=-1)
    return float(jnp.mean(values, where=jnp.asarray(LABELS != -100)))


@pytest.mark.parametrize('temperature', [1.0, 2.0])
@pytest.mark.parametrize(
    ('beta', 'here'), [(0.0, kl_forward), (0.1, jsd(0.1)), (0.5, jsd(0.5)), (0.9, jsd(0.9)), (1.0, kl_reverse)]
)
class TestGeneralizedJSD:
    def test_trl(self, logits, beta, here, temperature, monkeypatch):
        monkeypatch.setitem(sys.modules, 'torchvision', None)  # the wheel that fits another torch breaks the import
        gkd = pytest.importorskip('trl.experimental.gkd', exc_type=ImportError)
        student, teacher = (torch.tensor(z) for z in logits)
        theirs = gkd.GKDTrainer.generalized_jsd_loss(
            student, teacher, labels=torch.tensor(LABELS), beta=beta, temperature=temperature
        )
        assert ours(here, logits, temperature) == pytest.approx(float(theirs), rel=1e-5)

    def test_liger(self, logits, beta, here, temperature):
        chunked = pytest.importorskip('liger_kernel.chunked_loss')
        theirs = chunked.LigerFusedLinearJSDLoss(
            weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, temperature=temperature, compiled=False, chunk_size=3
        )
        student, teacher = (torch.tensor(z.reshape(8, 7)) for z in logits)
        head = torch.eye(7)
        found = theirs(student, head, teacher, head, torch.tensor(LABELS.reshape(8)))
        assert ours(here, logits, temperature) == pytest.approx(float(found), rel=1e-5)


def test_the_papers_form_vanishes_at_its_ends_and_the_others_do_not(logits):
    forward, reverse = (ours(d, logits, 1.0) for d in (kl_forward, kl_reverse))
    assert ours(jsd(0.001), logits, 1.0) == pytest.approx(0.001 * forward, rel=0.02)
    assert ours(jsd(0.999), logits, 1.0) == pytest.approx(0.001 * reverse, rel=0.02)
    for convention in ('normalized', 'continuous'):
        assert ours(jsd(0.001, convention), logits, 1.0) == pytest.approx(forward, rel=0.02)
        assert ours(jsd(0.999, convention), logits, 1.0) == pytest.approx(reverse, rel=0.02)
        assert ours(jsd(0.0, convention), logits, 1.0) == forward
    with pytest.raises(ValueError, match=r"beta is 0.0005.*or 0 or 1 with convention='normalized' or 'continuous'"):
        jsd(0.0005)


def test_cross_entropy_is_the_divergence_and_the_teachers_entropy(logits):
    student, teacher = map(jnp.asarray, logits)
    p = np.exp(teacher) / np.exp(teacher).sum(-1, keepdims=True)
    log_s = student - jnp.log(jnp.exp(student).sum(-1, keepdims=True))
    gap = -(p * log_s).sum(-1) - losses.kl_forward(student, teacher)
    np.testing.assert_allclose(gap, -(p * np.log(p)).sum(-1), rtol=1e-4)
