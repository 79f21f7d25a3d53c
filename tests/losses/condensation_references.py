"""The losses of data-set distillation in NumPy, written once more; see `loss_references`."""

import numpy as np


def flat(x):
    return x.reshape(len(x), -1)


def gradient_cosine(student, teacher):
    s, t = flat(student), flat(teacher)
    return 1 - (s * t).sum(1) / (np.linalg.norm(s, axis=1) * np.linalg.norm(t, axis=1) + 1e-6)


def trajectory_distance(student, teacher, start):
    return (flat(student - teacher) ** 2).sum(1) / (flat(start - teacher) ** 2).sum(1)


def characteristic_distance(s_re, s_im, t_re, t_im, amplitude=0.5, phase=0.5):
    s, t = s_re + 1j * s_im, t_re + 1j * t_im
    turned = 1 - np.cos(np.angle(s) - np.angle(t))
    return np.sqrt(amplitude * (abs(s) - abs(t)) ** 2 + 2 * phase * abs(s) * abs(t) * turned)
