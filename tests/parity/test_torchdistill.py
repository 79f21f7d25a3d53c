"""torchdistill on the same tensors: value and gradient in float64.

Where we differ on purpose, the test says how, and holds both to the formula:
- reductions: torchdistill returns a scalar, we return rows whose mean it is;
- T^2: `KDLoss` drops it when there is no hard loss (alpha None), ours is the flag `t_squared`;
- `SPKDLoss` scales the rows of its Gram matrices by their L1 norm (`normalize(x, 1)`), we by L2 as the paper;
- `RKDLoss` takes distances from a Gram matrix and clamps squares at 1e-12: equal rows are 1e-6 apart there,
  0 here, so only distinct rows are compared;
- `PKTLoss`, `DISTLoss` and `CRDLoss` add an epsilon (1e-7 or 1e-8) to a norm or a denominator, where ours is
  exact: compared to 1e-6 (the epsilon inside PKT's logarithm is in ours too);
- `CRDLoss` keeps normalisers and banks in buffers that it overwrites; ours are arguments, of equal numbers.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses

with warnings.catch_warnings():  # theirs, not ours to mend
    warnings.simplefilter('ignore')
    torch = pytest.importorskip('torch')
    mid_level = pytest.importorskip('torchdistill.losses.mid_level')

pytestmark = pytest.mark.filterwarnings('default')

BATCH, CLASSES = 6, 5
EXACT, NEAR = 1e-9, 1e-6


def normal(seed, *shape):
    return 2 * np.random.default_rng(seed).normal(size=shape)


def torch_value_and_gradient(loss, student):
    leaf = torch.tensor(student, dtype=torch.float64, requires_grad=True)
    value = loss(leaf)
    value.sum().backward()
    return value.detach().numpy().sum(), leaf.grad.numpy()


def agree(theirs, ours, student, tolerance):
    """theirs: torch tensor -> scalar; ours: jax array -> rows, whose mean it has to be."""
    value, gradient = torch_value_and_gradient(theirs, student)
    with jax.enable_x64(True):
        got, slope = jax.jit(jax.value_and_grad(lambda x: jnp.mean(ours(x))))(jnp.asarray(student))
    np.testing.assert_allclose(got, value, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(slope, gradient, rtol=tolerance, atol=tolerance)
    assert np.abs(gradient).max() > 0


def tensor(array):
    return torch.tensor(array)


def io(array, path='x'):
    """A tensor in the shape in which torchdistill hands over what its hooks caught."""
    return {path: {'output': array if torch.is_tensor(array) else tensor(array)}}


PATHS = ('x', 'output', 'x', 'output')
S, T = normal(0, BATCH, CLASSES), normal(1, BATCH, CLASSES)
LABELS = np.arange(BATCH) % CLASSES
FEATURES_S, FEATURES_T = normal(2, BATCH, 7), normal(3, BATCH, 4)
MAPS_S, MAPS_T = normal(4, BATCH, 4, 3, 2), normal(5, BATCH, 4, 3, 3)  # channels last


def channels_first(maps):
    return maps.permute(0, 3, 1, 2) if torch.is_tensor(maps) else np.moveaxis(maps, -1, 1).copy()


def test_kd_without_hard_loss_has_no_t_squared():
    theirs = mid_level.KDLoss(*PATHS, temperature=4.0, beta=1.0)
    agree(
        lambda s: theirs(io(s), io(T)),
        lambda s: losses.kl_forward(s, jnp.asarray(T), temperature=4.0),
        S,
        EXACT,
    )


def test_kd_with_hard_loss():
    theirs = mid_level.KDLoss(*PATHS, temperature=4.0, alpha=0.3)

    def ours(s):
        soft = losses.kl_forward(s, jnp.asarray(T), temperature=4.0, t_squared=True)
        return 0.3 * losses.cross_entropy(s, jnp.asarray(LABELS)) + 0.7 * soft

    agree(lambda s: theirs(io(s), io(T), tensor(LABELS)), ours, S, EXACT)


def test_standardised_kd():
    theirs = mid_level.LogitStdKDLoss(*PATHS, temperature=2.0, alpha=0.5, beta=9.0)

    def ours(s):
        pair = losses.standardize(s), losses.standardize(jnp.asarray(T))
        soft = losses.kl_forward(*pair, temperature=2.0, t_squared=True)
        return 0.5 * losses.cross_entropy(s, jnp.asarray(LABELS)) + 9 * soft

    agree(lambda s: theirs(io(s), io(T), tensor(LABELS)), ours, S, EXACT)


def test_label_smoothing():
    theirs = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    agree(
        lambda s: theirs(s, tensor(LABELS)),
        lambda s: losses.cross_entropy(s, jnp.asarray(LABELS), smoothing=0.1),
        S,
        EXACT,
    )


@pytest.mark.parametrize(
    ('module', 'name'),
    [('MSELoss', 'hint_mse'), ('MSELoss', 'mse_logits'), ('BCEWithLogitsLoss', 'binary_cross_entropy')],
)
def test_plain_torch_losses(module, name):
    theirs, targets = getattr(torch.nn, module)(), 1 / (1 + np.exp(-T))
    agree(
        lambda s: theirs(s, tensor(targets)),
        lambda s: getattr(losses, name)(s, jnp.asarray(targets)),
        S,
        EXACT,
    )


def test_dist():
    theirs = mid_level.DISTLoss(*PATHS, beta=0.7, gamma=1.3, tau=2.0)

    def ours(s):
        return losses.dist(s, jnp.asarray(T), beta=0.7, gamma=1.3, temperature=2.0, t_squared=True)

    agree(lambda s: theirs(io(s), io(T)), ours, S, NEAR)


@pytest.mark.parametrize('form', ['code', 'paper'])
def test_attention_transfer(form):
    pair = {'teacher': {'io': 'output', 'path': 'x'}, 'student': {'io': 'output', 'path': 'x'}, 'weight': 1}
    theirs = mid_level.ATLoss({'pair': pair}, mode=form)
    agree(
        lambda s: theirs(io(channels_first(s)), io(channels_first(MAPS_T))),
        lambda s: losses.attention_transfer(s, jnp.asarray(MAPS_T), form=form),
        MAPS_S,
        EXACT,
    )


def test_pkt():
    theirs = mid_level.PKTLoss(*PATHS)
    agree(
        lambda s: theirs(io(s), io(FEATURES_T)),
        lambda s: losses.pkt(s, jnp.asarray(FEATURES_T)),
        FEATURES_S,
        NEAR,
    )


@pytest.mark.parametrize('part', ['distance', 'angle'])
def test_rkd(part):
    factors = (1.0, None) if part == 'distance' else (None, 1.0)
    theirs = mid_level.RKDLoss('x', 'x', 1.0, 1.0, 'mean')
    theirs.dist_factor, theirs.angle_factor = (0.0 if f is None else f for f in factors)
    ours = losses.rkd_distance if part == 'distance' else losses.rkd_angle
    agree(
        lambda s: theirs(io(s), io(FEATURES_T)), lambda s: ours(s, jnp.asarray(FEATURES_T)), FEATURES_S, EXACT
    )


def test_similarity_preserving_by_the_papers_norm():
    """Their rows have L1 norm 1; with the paper's L2 in its place the same code gives our value."""
    theirs = mid_level.SPKDLoss('x', 'x', 'batchmean')
    theirs.matmul_and_normalize = lambda z: torch.nn.functional.normalize(z @ z.T, p=2, dim=1)
    agree(
        lambda s: theirs(io(s), io(FEATURES_T)),
        lambda s: losses.similarity_preserving(s, jnp.asarray(FEATURES_T)),
        FEATURES_S,
        EXACT,
    )


def test_similarity_preserving_as_released_differs_by_its_l1_norm():
    theirs = mid_level.SPKDLoss('x', 'x', 'batchmean')
    value = theirs(io(FEATURES_S), io(FEATURES_T)).item()
    grams = (x @ x.T for x in (FEATURES_S, FEATURES_T))
    s, t = (g / np.abs(g).sum(axis=1, keepdims=True) for g in grams)
    np.testing.assert_allclose(value, np.sum((s - t) ** 2) / BATCH**2, rtol=1e-9)
    with jax.enable_x64(True):
        ours = jnp.mean(losses.similarity_preserving(jnp.asarray(FEATURES_S), jnp.asarray(FEATURES_T)))
    assert abs(value - float(ours)) > 1e-3


def test_vid():
    """Their auxiliary module gives (mean, variance); ours takes rho, variance = softplus(rho) + 1e-5."""
    rho = normal(6, 3)
    variance = torch.nn.functional.softplus(tensor(rho)).view(1, 3, 1, 1) + 1e-5
    pair = {'teacher': {'io': 'output', 'path': 'x'}, 'student': {'io': 'output', 'path': 'x'}}
    theirs = mid_level.VIDLoss({'pair': pair})

    def loss(s):
        return theirs({'x': {'output': (channels_first(s), variance)}}, io(channels_first(MAPS_T)))

    agree(
        loss, lambda s: losses.vid(s, jnp.asarray(MAPS_T), jnp.asarray(rho)), normal(7, *MAPS_T.shape), EXACT
    )


BANK, SLOTS, WIDTH = 8, 4, 3


def crd_case():
    """Unit embeddings, the rows' numbers with the example's own first, and their module in float64."""
    rng = np.random.default_rng(8)
    s, t = rng.normal(size=(2, BATCH, WIDTH))
    t = t / np.linalg.norm(t, axis=1, keepdims=True)
    rows = np.array([rng.permutation([j for j in range(BANK) if j != i])[: SLOTS - 1] for i in range(BATCH)])
    index = np.concatenate([np.arange(BATCH)[:, None], rows], axis=1)
    torch.manual_seed(0)
    module = mid_level.CRDLoss('x', 'empty', 'x', WIDTH, BANK, SLOTS - 1, BANK, temperature=0.5).double()
    return s, t, index, module


def crd_of(module, s, t, index):
    supplement = {'pos_idx': tensor(index[:, 0]), 'contrast_idx': tensor(index)}
    return module({**io(s), 'empty': {'input': supplement}}, io(t))


def test_crd_with_its_normalisers_and_banks():
    """The first call fixes Z and moves the banks; the second takes both as they are, and so do we."""
    s, t, index, module = crd_case()
    unit = s / np.linalg.norm(s, axis=1, keepdims=True)
    before = [module.memory_v1.numpy().copy(), module.memory_v2.numpy().copy()]
    crd_of(module, tensor(unit), t, index)
    log_z = np.log(module.params[2:4].numpy())
    with jax.enable_x64(True):
        student_bank, teacher_bank = map(jnp.asarray, before)
        of_student = losses.memory_scores(jnp.asarray(unit), teacher_bank[index], temperature=0.5)
        of_teacher = losses.memory_scores(jnp.asarray(t), student_bank[index], temperature=0.5)
        ours = [losses.memory_log_z(scores, bank_size=BANK) for scores in (of_student, of_teacher)]
        np.testing.assert_allclose(ours, log_z, rtol=1e-9)
        own = jnp.asarray(index[:, 0])
        banks = [
            losses.update_memory(bank, own, jnp.asarray(new))
            for bank, new in ((student_bank, unit), (teacher_bank, t))
        ]
        np.testing.assert_allclose(banks[0], module.memory_v1.numpy(), rtol=1e-9)
        np.testing.assert_allclose(banks[1], module.memory_v2.numpy(), rtol=1e-9)
        rows = banks[0][index], banks[1][index]
    agree(
        lambda x: crd_of(module, torch.nn.functional.normalize(x), t, index),
        lambda x: losses.crd(x, jnp.asarray(t), *rows, jnp.asarray(log_z), bank_size=BANK, temperature=0.5),
        s,
        NEAR,
    )
