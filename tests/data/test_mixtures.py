"""Points of known laws: densities integrate to one, cells are exact, draws follow."""

import numpy as np
import pytest

from kdjax.data.mixtures import LAWS, mixtures
from kdjax.errors import UserError
from kdjax.metrics.histogram import histogram_divergences
from kdjax.metrics.modes import mode_metrics, mode_weights


def grid(law, bins):
    side = np.linspace(-law.extent, law.extent, bins, endpoint=False) + law.extent / bins
    return np.stack(np.meshgrid(side, side, indexing='ij'), axis=-1).reshape(-1, 2), (2 * law.extent / bins) ** 2


@pytest.mark.parametrize('name', LAWS)
def test_a_density_integrates_to_one_over_the_extent_and_to_its_cells(name):
    law = mixtures(name)
    points, area = grid(law, 160)
    density = np.exp(law.log_density(points)).reshape(160, 160) * area
    assert density.sum() == pytest.approx(1, abs=1e-6)
    cells = law.cells(20)
    np.testing.assert_allclose(density.reshape(20, 8, 20, 8).sum((1, 3)), cells, atol=5e-3 * cells.max())
    assert cells.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize('name', LAWS)
def test_draws_follow_the_law(name):
    law = mixtures(name)
    points = law['test']['point']
    assert points.dtype == np.float32 and np.abs(points.mean(axis=0)).max() < 0.05
    assert points.std() == pytest.approx(law.spread, rel=0.03)
    reach = float(law.extent)
    found = histogram_divergences(points, law.cells(40), low=(-reach, -reach), high=(reach, reach))
    assert abs(found['kl_to_data']) < 0.02
    assert found['kl_from_data'] < 0.15


def test_labels_are_modes_and_a_tilt_is_their_weight():
    law = mixtures('ring8', tilt=4.0)
    assert law.classes == 8
    assert law.mode_weights[-1] / law.mode_weights[0] == pytest.approx(4)
    shares = np.bincount(law['train']['label']) / len(law['train'])
    np.testing.assert_allclose(shares, law.mode_weights, atol=0.01)
    found = mode_weights(law['train']['point'], law.means, law.mode, reach=3 * law.deviation)
    said = mode_metrics(found, law.mode_weights)
    assert said['modes'] == 8 and said['weight_error'] < 0.01
    assert said['in_modes'] == pytest.approx(1 - np.exp(-4.5), abs=0.005)  # within three deviations in the plane


def test_a_fine_checkerboard_is_flat_inside_its_squares():
    law = mixtures('checkerboard')
    inner = np.stack(np.meshgrid(*[np.linspace(0.1, 0.4, 7)] * 2), axis=-1).reshape(-1, 2) - 1.0
    inside = np.exp(law.log_density(inner))
    assert inside.max() / inside.min() < 1.15
    light = np.exp(law.log_density(inner + np.array([0.5, 0.0])))
    assert light.max() < 0.2 * inside.min()


def test_the_same_name_is_the_same_data_and_another_tilt_is_not():
    mixtures.cache_clear()
    assert mixtures('moons').identity == mixtures('moons', tilt=1).identity != mixtures('moons', tilt=2.0).identity


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        ({'name': 'ring'}, "unknown mixture 'ring'"),
        ({'name': 'ring8', 'rows': 0}, '0 rows, .* all are positive'),
        ({'name': 'ring8', 'tilt': -1.0}, r'tilt=-1\.0: all are positive'),
    ],
)
def test_what_cannot_be_drawn_is_refused(options, said):
    with pytest.raises(UserError, match=said):
        mixtures(**options)
