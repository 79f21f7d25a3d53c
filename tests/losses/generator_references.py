"""The losses of generators and scores in NumPy, written once more; see `loss_references`."""

import numpy as np


def along(values, like):
    return np.reshape(values, (-1,) + (1,) * (like.ndim - 1))


def sums(x):
    return x.reshape(len(x), -1).sum(1)


def means(x):
    return x.reshape(len(x), -1).mean(1)


def denoising(prediction, x, alpha, sigma, unit='noise'):
    """The squared error in the unit itself, from the same x_t."""
    a, s = along(alpha, x), along(sigma, x)
    x_t = a * x + s * 0.3
    error = prediction - x
    noise = (x_t - a * prediction) / s - (x_t - a * x) / s
    in_unit = {
        'data': error,
        'noise': noise,
        'v': a * noise - s * error,
        'flow': noise - error,
        'edm': error * np.sqrt((s**2 / a**2 + 0.25) / (s**2 / a**2 * 0.25)),
        'truncated_snr': error * np.maximum(a / s, 1),
    }
    return means(in_unit[unit] ** 2)


def flow_matching(velocity, x, noise):
    return means((velocity - noise + x) ** 2)


def step_of(x, real, fake, weight, normaliser='sample'):
    scale = 1 / np.maximum(means(np.abs(x - real)), 1e-5) if normaliser == 'sample' else np.ones(len(x))
    return along(weight * scale, x) * (fake - real)


def distribution_matching(x, real, fake, weight, normaliser='sample'):
    return means(step_of(x, real, fake, weight, normaliser) ** 2) / 2


def distribution_matching_held(x, real, fake, weight, normaliser='sample'):
    """With the regression's target where it is here."""
    target = x - step_of(x, real, fake, weight, normaliser)
    return lambda x, *_: means((x - target) ** 2) / 2


def em_distillation(generated, x_t, alpha, sigma):
    return sums((x_t - along(alpha, x_t) * generated) ** 2) / (2 * sigma**2)


def score_identity(x, real, fake, alpha=1.2, normaliser='sample', n=None):
    n = np.maximum(means(np.abs(x - real)), 1e-5) if n is None else n
    values = sums((real - fake) * ((real - x) - alpha * (real - fake)))
    return values / n if normaliser == 'sample' else values


def score_identity_held(x, real, fake):
    n = np.maximum(means(np.abs(x - real)), 1e-5)
    return lambda *args: score_identity(*args, n=n)


def score_implicit_matching(x, real, fake, scale, distance='pseudo_huber', c=1.0):
    y = along(scale, x) * (fake - real)
    slope = y if distance == 'squared' else y / along(np.sqrt(sums(y**2) + c**2), y)
    return -sums(slope * along(scale, x) * (fake - x))


def consistency(prediction, target, weight, distance='pseudo_huber', c=None):
    c = 0.00054 * np.sqrt(target[0].size) if c is None else c
    y = prediction - target
    return weight * (means(y**2) if distance == 'squared' else np.sqrt(sums(y**2) + c**2) - c)


def tangent_matching(output, tangent, log_weight, held=None):
    held = output if held is None else held
    return np.exp(log_weight) * means((output - held - tangent) ** 2) - log_weight


def mean_flow(prediction, target, power=1.0, weight=None):
    error = sums((prediction - target) ** 2)
    return error / (error + 0.01) ** power if weight is None else error * weight


def mean_flow_held(prediction, target, power=1.0):
    weight = (sums((prediction - target) ** 2) + 0.01) ** -power
    return lambda *args: mean_flow(*args, weight=weight)


def boot(prediction, signal, data, alpha, sigma, alpha_next, sigma_next):
    """By the DDIM step itself."""
    a, s, a_, s_ = (along(v, data) for v in (alpha, sigma, alpha_next, sigma_next))
    x_t = a * signal + s * 0.7
    noise = (x_t - a * data) / s
    target = (a_ * data + s_ * noise - s_ * 0.7) / a_
    return means((prediction - target) ** 2) / (1 - np.exp(np.log(s_ * a) - np.log(a_ * s))).reshape(-1) ** 2


def distilled_score(x, direction, weight, clip=None):
    step = along(weight, x) * direction
    return sums((step if clip is None else np.clip(step, -clip, clip)) ** 2) / 2


def distilled_score_held(x, direction, weight):
    target = x - along(weight, x) * direction
    return lambda x, *_: sums((x - target) ** 2) / 2


def adversarial_generator(fake, form='softplus'):
    return means(-fake if form == 'hinge' else np.log1p(np.exp(-fake)))


def adversarial_discriminator(real, fake, form='softplus'):
    if form == 'hinge':
        return means(np.maximum(0, 1 - real) + np.maximum(0, 1 + fake)) / 2
    return means(np.log1p(np.exp(-real)) + np.log1p(np.exp(fake)))
