"""Gaussian splats in space, projected and composited as in 3D Gaussian splatting."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.renderers.cameras import Orbit
from kdjax.renderers.compositing import front_to_back, ground
from kdjax.renderers.renderer import Params, Traced, logit, positive


@dataclasses.dataclass(frozen=True)
class Splats3D:
    """`count` Gaussians in space; values in [0, 1].

    params, of each splat: `mean` [3], `size` [3] raw, `rotation` [4] a quaternion (w, x, y, z) of any length, `colour`
    [channels] and `opacity` as logits. With s = least (most / least)^sigmoid(size), S = diag(s), W the rotation into
    the camera and J the Jacobian of the perspective at the mean (equations 5 and 6):

        Sigma = R S S^T R^T        Sigma' = J W Sigma W^T J^T + blur I      in pixels^2

    and alpha = sigmoid(opacity) exp(-d^T Sigma'^-1 d / 2) from the front to the back, sorted by the depth of the means.
    As in the authors' code the Jacobian is taken within 1.3 of the field of view, the blur is 0.3 and alpha is at most
    0.99; unlike it there are no tiles, nothing is cut off below 1/255, and colours do not depend on the direction.
    Splats nearer than `near` are not drawn.

    least, most: standard deviations in the world. background: one number, or one for each channel.
    Source: arXiv 2308.04079, section 4 and appendix; graphdeco-inria/diff-gaussian-rasterization, forward.cu.
    """

    height: int
    width: int
    channels: int = 3
    count: int = 64
    least: float = 0.02
    most: float = 0.6
    background: float | tuple[float, ...] = 0.5
    blur: float = 0.3
    near: float = 0.2

    @property
    def span(self) -> tuple[float, float]:
        return 0.0, 1.0

    def init(self, key: jax.Array) -> Params:
        places, turns, colours = jax.random.split(key, 3)
        n = self.count
        return {
            'mean': 0.4 * jax.random.truncated_normal(places, -2.0, 2.0, (n, 3)),
            'size': jnp.full((n, 3), 0.4),
            'rotation': jax.random.normal(turns, (n, 4)),
            'colour': 0.5 * jax.random.normal(colours, (n, self.channels)),
            'opacity': jnp.full((n,), logit(0.3)),
        }

    def render(self, params: Params, camera: Orbit, *, key: jax.Array) -> Float[Array, 'height width channels']:
        return self.trace(params, camera, key=key).image

    def trace(self, params: Params, camera: Orbit, *, key: jax.Array) -> Traced:
        """Image, opacity and depth."""
        del key
        alpha, depth = self.alpha(params, camera)
        order = jnp.argsort(jax.lax.stop_gradient(depth))
        weights, rest = front_to_back(alpha[..., order])
        colour = jax.nn.sigmoid(params['colour'])[order]
        image = weights @ colour + rest[..., None] * ground(self.background, colour, 3)
        opacity = 1 - rest
        mean_depth = weights @ depth[order] / jnp.maximum(opacity, 1e-3)
        return Traced(image, opacity, jnp.where(opacity < 1e-3, jnp.inf, mean_depth))

    def alpha(
        self, params: Params, camera: Orbit
    ) -> tuple[Float[Array, 'height width splats'], Float[Array, ' splats']]:
        """How opaque each splat is at each pixel, and the depth of its mean; in the order of the arrays."""
        centre, covariance, depth = self.project(params, camera)
        dtype = centre.dtype
        a, b, c = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
        determinant = a * c - b**2
        x = (jnp.arange(self.width, dtype=dtype) + 0.5)[None, :, None] - centre[:, 0][None, None]
        y = (jnp.arange(self.height, dtype=dtype) + 0.5)[:, None, None] - centre[:, 1][None, None]
        a, b, c = (v[None, None] / determinant[None, None] for v in (a, b, c))
        fall = jnp.exp(-0.5 * jnp.maximum(c * x**2 - 2 * b * x * y + a * y**2, 0.0))
        opaque = jnp.where(depth > self.near, jax.nn.sigmoid(params['opacity']), 0.0)
        return jnp.minimum(opaque[None, None] * fall, 0.99), depth

    def project(
        self, params: Params, camera: Orbit
    ) -> tuple[Float[Array, 'splats 2'], Float[Array, 'splats 2 2'], Float[Array, ' splats']]:
        """Means in pixels (x, y), covariances in pixels^2 with the blur, and depths. Nearer ones as if at `near`."""
        local = camera.to_camera(params['mean'])
        depth = local[:, 2]
        z = jnp.maximum(depth, self.near)
        slope = local[:, :2] / z[:, None]
        focal = camera.focal(self.height)
        tangent = jnp.tan(0.5 * camera.field_of_view)
        limit = 1.3 * jnp.stack([tangent * (self.width / self.height), tangent])[None]
        held = jnp.clip(slope, -limit, limit)
        near = focal / z
        zero = jnp.zeros_like(near)
        jacobian = jnp.stack(
            [jnp.stack([near, zero, -near * held[:, 0]], -1), jnp.stack([zero, near, -near * held[:, 1]], -1)], -2
        )
        half = jacobian @ (camera.axes()[None] @ self._axes(params))
        covariance = half @ half.mT + self.blur * jnp.eye(2, dtype=half.dtype)[None]
        middle = jnp.asarray([0.5 * self.width, 0.5 * self.height], half.dtype)
        return focal * slope + middle[None], covariance, depth

    def covariance(self, params: Params) -> Float[Array, 'splats 3 3']:
        """Sigma = R S S^T R^T of each splat, in the world."""
        axes = self._axes(params)
        return axes @ axes.mT

    def _axes(self, params: Params) -> Float[Array, 'splats 3 3']:
        return rotation(params['rotation']) * positive(params['size'], self.least, self.most)[:, None, :]


def rotation(quaternion: Float[Array, '*batch 4']) -> Float[Array, '*batch 3 3']:
    """The rotation of a quaternion (w, x, y, z) of any length; the identity at zero."""
    squares = jnp.sum(quaternion**2, axis=-1, keepdims=True)
    w, x, y, z = jnp.moveaxis(quaternion * jax.lax.rsqrt(jnp.maximum(squares, 1e-12)), -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)
