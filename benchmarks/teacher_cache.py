"""Bias and noise of the gradient of a cached teacher, at the same bytes a token: which kind is the default, and where.

For each kind of cache and each loss that reads it: the gradient of the full KL(teacher || student) in the student's
logits, minus that of the cached one. All numbers are relative to the size of the full gradient.

    bias    of a token's gradient: what stays after any number of draws
    noise   of a token's gradient: the standard deviation of one draw
    batch   error of the gradient of the student's output embedding, mean over BATCH tokens: biases that tokens share
            stay, noise is divided by sqrt(BATCH). The kind with the least is the default at that size.

Ratios are of the last: hybrid / independent draws, and hybrid / the best of the biased.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import distributions
import jax
import jax.numpy as jnp
import numpy as np
from distributions import Distributions
from timing import conclude

from kdjax import losses
from kdjax.data.teacher_cache import Hidden, Kind, Sampled, TopK, best_kind, bytes_per_token, compress, fitted
from kdjax.data.teacher_cache.codec import encode
from kdjax.errors import UserError

SIZES = (48, 114, 300, 512)
BATCH, DRAWS = 4096, 4
Gradient = Callable[[Any], jax.Array]

BIASED: dict[str, Callable[..., jax.Array]] = {
    'top-k, truncated': losses.truncated_kl,
    'top-k, renormalised': losses.renormalized_kl,
    'top-k, both renormalised': lambda *args: losses.renormalized_kl(*args, both=True),
    'top-k, tail bucket': losses.tail_bucket_kl,
}
UNBIASED: dict[str, Callable[[int, np.ndarray], Kind]] = {
    'sampled': lambda size, probs: fitted(Sampled, size, probs),
    'hybrid': best_kind,
}


def errors(of: Distributions, estimates: list[jax.Array], *, unbiased: bool) -> dict[str, float]:
    """Bias, noise and batch error of estimates `[draws]` of the gradient `[tokens, vocab]`.

    Squares of means are taken between different tokens, so that noise does not count as bias. An unbiased kind has no
    bias by construction (tests hold it), so none is estimated into its batch error.
    """
    full = np.asarray(jax.nn.softmax(of.student) - jax.nn.softmax(of.teacher))
    size = np.sum(full**2, axis=-1)
    wrong = np.stack([np.asarray(e) - full for e in estimates])
    mean = np.mean(wrong, axis=0)
    spread = np.sum(np.var(wrong, axis=0, ddof=1), axis=-1) if len(wrong) > 1 else np.zeros(len(full))
    bias = max(0.0, float(np.mean(np.sum(mean**2, axis=-1) - spread / len(wrong))))
    features = np.asarray(of.features)
    weights = np.sum(features**2, axis=-1)
    pairs = (features @ features.T) * (mean @ mean.T)
    shared = (pairs.sum() - np.trace(pairs)) / (len(full) * (len(full) - 1))
    shared = 0.0 if unbiased else max(0.0, float(shared))
    alone = float(np.mean(weights * np.mean(np.sum(wrong**2, axis=-1), axis=0)))
    batch = (shared + (alone - shared) / BATCH) / np.mean(weights * size)
    scale = float(np.mean(size))
    return {'bias': (bias / scale) ** 0.5, 'noise': float(np.mean(spread) / scale) ** 0.5, 'batch': float(batch**0.5)}


def rows(of: Distributions, size: int) -> Iterator[dict[str, Any]]:
    """A row of the table for each kind and loss that fits `size` bytes a token."""
    probs = np.asarray(jax.nn.softmax(of.teacher))
    top = fitted(TopK, size, probs)
    known = kept(top, of, 1)[0]
    for name, loss in BIASED.items():
        yield row(of, size, name, top, [slope(loss, of, known.ids, known.probs)], unbiased=False)
    for name, make in UNBIASED.items():
        kind = make(size, probs)
        draws = [slope(losses.sparse_cross_entropy, of, s.ids, s.probs) for s in kept(kind, of, DRAWS)]
        yield row(of, size, name, kind, draws, unbiased=True)
    hidden = Hidden(of.teacher_hidden.shape[-1])
    if bytes_per_token(hidden, probs.shape[-1]) <= size:
        rounded = of.teacher_hidden.astype(jnp.bfloat16).astype(jnp.float32) @ of.teacher_head.T
        yield row(of, size, 'hidden states', hidden, [slope(losses.kl_forward, of, rounded)], unbiased=False)


def row(of: Distributions, size: int, name: str, kind: Kind, estimates: list[jax.Array], *, unbiased: bool) -> dict:
    spent = bytes_per_token(kind, of.teacher.shape[-1])
    if unbiased:
        said = kept(kind, of, 1)[0]
        fields = {field: np.asarray(getattr(said, field)) for field in said.__dataclass_fields__}
        spent = len(encode(kind, of.teacher.shape[-1], fields)) / len(of.teacher)
    measured = errors(of, estimates, unbiased=unbiased)
    return {'teacher': of.name, 'size': size, 'name': name, 'kind': str(kind), 'bytes': round(spent, 1), **measured}


def kept(kind: Kind, of: Distributions, draws: int) -> list[Any]:
    cut = jax.jit(lambda logits, key: compress(kind, logits, key=key))
    return [cut(of.teacher, jax.random.key(draw)) for draw in range(draws)]


def slope(loss: Callable[..., jax.Array], of: Distributions, *known: jax.Array) -> jax.Array:
    """The gradient of a loss in the student's logits, every token for itself."""
    return jax.jit(jax.grad(lambda student, *known: jnp.sum(loss(student, *known))))(of.student, *known)


def printed(table: list[dict[str, Any]]) -> None:
    print(f'{"teacher":<10}{"size":>5}  {"kept":<26}{"bytes":>7}{"bias":>10}{"noise":>10}{"batch":>10}')
    for r in table:
        numbers = ''.join(f'{r[column]:10.2e}' for column in ('bias', 'noise', 'batch'))
        print(f'{r["teacher"]:<10}{r["size"]:>5}  {r["name"]:<26}{r["bytes"]:>7}{numbers}', flush=True)


def ratios(table: list[dict[str, Any]]) -> dict[str, float]:
    found = {}
    for teacher, size in dict.fromkeys((r['teacher'], r['size']) for r in table):
        error = {r['name']: r['batch'] for r in table if (r['teacher'], r['size']) == (teacher, size)}
        found[f'{teacher}_{size}_hybrid_over_sampled'] = error['hybrid'] / error['sampled']
        found[f'{teacher}_{size}_hybrid_over_biased'] = error['hybrid'] / min(error[name] for name in BIASED)
    return found


def chart(table: list[dict[str, Any]], path: pathlib.Path) -> None:
    """Error of a token's gradient and of a batch's against bytes, one line for each kind, one row for each teacher."""
    import matplotlib

    matplotlib.use('Agg')
    matplotlib.rcParams |= {'svg.hashsalt': 'kdjax', 'svg.fonttype': 'none'}
    import matplotlib.pyplot as plt

    teachers = list(dict.fromkeys(r['teacher'] for r in table))
    figure, axes = plt.subplots(len(teachers), 2, figsize=(10, 4 * len(teachers)), squeeze=False, layout='constrained')
    for teacher, (one, many) in zip(teachers, axes, strict=True):
        for name in dict.fromkeys(r['name'] for r in table):
            found = [r for r in table if (r['teacher'], r['name']) == (teacher, name)]
            sizes = [r['size'] for r in found]
            one.loglog(sizes, [np.hypot(r['bias'], r['noise']) for r in found], marker='o', label=name)
            many.loglog(sizes, [r['batch'] for r in found], marker='o', label=name)
        one.set(title=f'{teacher}: logits of a token', ylabel='error / size of the gradient')
        many.set(title=f'{teacher}: output embedding, {BATCH} tokens')
        for ax in (one, many):
            ax.set_xlabel('bytes a token')
            ax.set_xticks(SIZES, map(str, SIZES))
            ax.minorticks_off()
    handles, names = axes[-1, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc='outside upper center', ncols=4, fontsize=8)
    figure.savefig(path, metadata={'Date': None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tokens', type=int, default=256, help='tokens that are measured')
    parser.add_argument('--out', type=pathlib.Path, help='folder for the table (JSON) and the chart (SVG)')
    parser.add_argument('--smoke', action='store_true', help='a made-up teacher: it works, it measures nothing')
    options = parser.parse_args()
    measured = [distributions.smollm2, distributions.smollm2_near, distributions.byte_lm]
    table = []
    for make in [distributions.made_up] if options.smoke else measured:
        try:
            of = make(16 if options.smoke else options.tokens)
        except UserError as error:
            print(f'left out: {error}', flush=True)
            continue
        found = [r for size in (SIZES[:1] if options.smoke else SIZES) for r in rows(of, size)]
        printed(found)
        table += found
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / 'teacher_cache_table.json').write_text(json.dumps(table, indent=1) + '\n')
        chart(table, options.out / 'teacher_cache.svg')
    goals = {name: '<= 1.0' for name in ratios(table) if name.endswith('over_sampled')}
    conclude('teacher_cache', ratios=ratios(table), goals=goals)


if __name__ == '__main__':
    main()
