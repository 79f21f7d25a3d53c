"""The chain of EM distillation on Gaussians in closed form, in float64: it is affine in its normal draws.

The generator makes x = MATRIX z + SHIFT of three latents, the teacher's law is N(MEAN, COVARIANCE), in two dimensions.
A law is (mean `[5]`, covariance `[5, 5]`) of (z, noise) together.
"""

import numpy as np

LATENTS, DIM = 3, 2
BOTH = LATENTS + DIM
MATRIX, SHIFT = np.array([[0.8, -0.4, 0.3], [0.2, 0.6, -0.5]]), np.array([-0.3, 0.5])
MEAN, COVARIANCE = np.array([0.4, -0.2]), np.array([[1.5, 0.6], [0.6, 0.9]])
STANDARD = np.zeros(BOTH), np.eye(BOTH)


def covariances(alpha, sigma):
    """Of x_t: the teacher's and the generator's."""
    return tuple(alpha**2 * clean + sigma**2 * np.eye(DIM) for clean in (COVARIANCE, MATRIX @ MATRIX.T))


def moved(langevin, law, alpha, sigma):
    """The law at the end of the chain, what `cancels` names subtracted."""
    teacher, own = (np.linalg.inv(c) for c in covariances(alpha, sigma))
    to_x_t = np.hstack([alpha * MATRIX, sigma * np.eye(DIM)])
    lift = sigma * (own - teacher) @ to_x_t  # of (z, noise), and a constant
    constant = sigma * teacher @ (alpha * (MEAN - SHIFT))
    pull = alpha / sigma * MATRIX.T
    size = langevin.latent_size * min(1.0, (sigma / alpha) ** 2)
    sizes = np.repeat([size, langevin.noise_size], [LATENTS, DIM])[:, None]
    # The state is (z, noise, book): the book is of the draws.
    kept = {'nothing': 0.0, 'injected': 1.0, 'decayed': 1 - langevin.noise_size}[langevin.cancels]
    step, drift = kept * np.eye(BOTH + DIM), np.zeros(BOTH + DIM)
    step[:BOTH, :BOTH] = np.eye(BOTH) + sizes * (np.vstack([pull @ lift, lift]) - np.eye(BOTH))
    drift[:BOTH] = sizes[:, 0] * np.concatenate([pull @ constant, constant])
    draws = np.zeros((BOTH + DIM, BOTH))
    draws[:BOTH] = np.diag(np.sqrt(2 * sizes[:, 0]))
    draws[BOTH:] = draws[LATENTS:BOTH]
    mean, covariance = np.zeros(BOTH + DIM), np.zeros((BOTH + DIM, BOTH + DIM))
    mean[:BOTH], covariance[:BOTH, :BOTH] = law
    for _ in range(langevin.steps):
        mean, covariance = step @ mean + drift, step @ covariance @ step.T + draws @ draws.T
    less = np.eye(BOTH, BOTH + DIM)
    if langevin.cancels != 'nothing':
        less[LATENTS:, BOTH:] = -np.eye(DIM)
    return less @ mean, less @ covariance @ less.T


def target(alpha, sigma):
    """The law proportional to p(x_t) / q(x_t) N(z) N(noise): x_t as the teacher's, (z, noise) as they go with it."""
    teacher, own = covariances(alpha, sigma)
    to_x_t = np.hstack([alpha * MATRIX, sigma * np.eye(DIM)])
    gain = to_x_t.T @ np.linalg.inv(own)
    return gain @ (alpha * (MEAN - SHIFT)), np.eye(BOTH) + gain @ (teacher - own) @ gain.T


def value_and_gradient(law, alpha, sigma):
    """E |noise|^2 / 2, and in (matrix, shift) -(alpha / sigma) E noise (z, 1), as x_t is a constant."""
    mean, covariance = law
    second = covariance + np.outer(mean, mean)
    in_matrix, in_shift = second[LATENTS:, :LATENTS], mean[LATENTS:]
    return 0.5 * np.trace(second[LATENTS:, LATENTS:]), -alpha / sigma * flat(in_matrix, in_shift)


def flat(in_matrix, in_shift):
    """`[dim * latents + dim]`."""
    return np.concatenate([np.ravel(in_matrix), np.ravel(in_shift)]).astype(np.float64)


def slope_of_kl(alpha, sigma, *, reverse, step=1e-5):
    """In (matrix, shift), of KL(q_t || p_t), or of KL(p_t || q_t): central differences of the closed form."""

    def kl(matrix, shift):
        own = alpha * shift, alpha**2 * matrix @ matrix.T + sigma**2 * np.eye(DIM)
        teacher = alpha * MEAN, covariances(alpha, sigma)[0]
        (mean, covariance), (mean_, covariance_) = (own, teacher) if reverse else (teacher, own)
        scale = covariance + np.outer(mean - mean_, mean - mean_)
        logs = np.linalg.slogdet(covariance_)[1] - np.linalg.slogdet(covariance)[1]
        return 0.5 * (np.trace(np.linalg.solve(covariance_, scale)) - DIM + logs)

    point, found = flat(MATRIX, SHIFT), []
    for way in step * np.eye(len(point)):
        ends = [kl(at[: MATRIX.size].reshape(MATRIX.shape), at[MATRIX.size :]) for at in (point + way, point - way)]
        found.append((ends[0] - ends[1]) / (2 * step))
    return np.array(found)
