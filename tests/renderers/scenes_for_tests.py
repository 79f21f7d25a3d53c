"""One small renderer of each kind, with a camera that it understands."""

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import renderers as r

RENDERERS = {
    'pixels': r.Pixels(6, 5),
    'sigmoid pixels': r.Pixels(6, 5, form='sigmoid', canvas=(8, 7)),
    'fourier': r.FourierField(6, 5, frequencies=4, hidden=6),
    'splats 2-D': r.Splats2D(6, 5, count=4),
    'splats 3-D': r.Splats3D(6, 5, count=4),
    'voxels': r.Volume(6, 5, field=r.Voxels(4), samples=8),
    'network': r.Volume(6, 5, field=r.FourierDensity(frequencies=3, hidden=5), samples=6),
    'strokes': r.Strokes(6, 5, count=3, pieces=5),
}
FLAT = ('pixels', 'sigmoid pixels', 'fourier', 'splats 2-D', 'strokes')


def camera(name, turn=0.3, dtype=jnp.float32):
    """A view that is turned, moved and zoomed."""
    if name in FLAT:
        return r.crop((0.1, -0.2), 0.8, turn, dtype=dtype)
    return r.orbit(turn, 0.4, dtype=dtype)


def float64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def ravel_numpy(tree):
    """All numbers of a tree as one vector, and back."""
    leaves, structure = jax.tree.flatten(tree)
    ends = np.cumsum([np.size(leaf) for leaf in leaves])[:-1]

    def back(flat):
        parts = np.split(flat, ends)
        return structure.unflatten([p.reshape(np.shape(leaf)) for p, leaf in zip(parts, leaves, strict=True)])

    return np.concatenate([np.ravel(leaf) for leaf in leaves]), back
