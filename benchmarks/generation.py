"""Text from a Llama of random weights, batch 8: kdjax.decoding against `transformers` generate.

4 blocks of width 256, a vocabulary of 32000, float32, prompts of 32 tokens and 128 new ones, no stop token; PyTorch on
two CPU threads. Ratios are seconds for each text, transformers / kdjax: `sampling` from the model's own distribution,
`nucleus` with top-k 50 and top-p 0.95.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from timing import Contestant, arguments, conclude, interleaved, ratio, timed

from kdjax.decoding import PLAIN, LanguageModel, Sampling, generate, pad_prompts
from kdjax.models.decoder import decoder
from kdjax.models.decoder_config import DecoderConfig

SEED, THREADS = 0, 2
FULL = {'vocabulary': 32000, 'width': 256, 'depth': 4, 'heads': 4, 'hidden': 704, 'rows': 8, 'prompt': 32, 'new': 128}
SMOKE = {'vocabulary': 64, 'width': 16, 'depth': 1, 'heads': 2, 'hidden': 32, 'rows': 2, 'prompt': 3, 'new': 4}
NUCLEUS = {'top_k': 50, 'top_p': 0.95}
CASES: dict[str, Sampling] = {'sampling': PLAIN, 'nucleus': Sampling(**NUCLEUS)}
PEER_OPTIONS = {'sampling': {'top_k': 0, 'top_p': 1.0}, 'nucleus': NUCLEUS}
GOALS = {'sampling': '>= 6'}


def prompts(setting: dict[str, int]) -> np.ndarray:
    """Random tokens `[rows, prompt]`."""
    shape = setting['rows'], setting['prompt']
    return np.random.default_rng(SEED).integers(0, setting['vocabulary'], shape).astype(np.int32)


def ours(setting: dict[str, int], case: str) -> Contestant:
    """`kdjax.decoding.generate`: one program for each batch of texts."""
    sizes = ('vocabulary', 'width', 'depth', 'heads', 'hidden')
    config = DecoderConfig(*(setting[size] for size in sizes), tied=False)
    model = decoder(config)
    variables = jax.jit(lambda key: model.init(key, jnp.zeros((1, 2), jnp.int32)))(jax.random.key(SEED))
    given, seeds = pad_prompts(list(prompts(setting))), itertools.count()

    def text() -> Any:
        said = generate(
            LanguageModel(model, config), variables, given,
            key=jax.random.key(next(seeds)), max_new=setting['new'], sampling=CASES[case],
        )  # fmt: skip
        return jax.device_get(said.tokens)

    return timed(text)


def peer(setting: dict[str, int], case: str) -> Contestant:
    """`LlamaForCausalLM.generate`, with its cache."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=setting['vocabulary'], hidden_size=setting['width'], intermediate_size=setting['hidden'],
        num_hidden_layers=setting['depth'], num_attention_heads=setting['heads'],
        bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(config).eval()
    given = torch.tensor(prompts(setting), dtype=torch.long)
    mask = torch.ones_like(given)

    def text() -> Any:
        with torch.inference_mode():
            said = model.generate(
                given, attention_mask=mask, do_sample=True, max_new_tokens=setting['new'], **PEER_OPTIONS[case]
            )
        assert said.shape[1] == setting['prompt'] + setting['new']
        return said

    return timed(text)


def contestants(setting: dict[str, int]) -> Iterator[tuple[str, Contestant]]:
    for case in CASES:
        yield f'kdjax, {case}', ours(setting, case)
        yield f'transformers, {case}', peer(setting, case)


def main() -> None:
    options = arguments(__doc__, repeats=9)
    sys.modules.setdefault('torchvision', None)  # of another build than torch it breaks transformers, which needs none
    try:
        import torch
        import transformers
    except ImportError:
        sys.exit('PyTorch or transformers is not installed: pip install torch transformers')
    setting = SMOKE if options.smoke else FULL
    seconds = interleaved(dict(contestants(setting)), steps=1, repeats=options.repeats, warm_up=1)
    for name, values in seconds.items():
        print(f'  {name:<24} {setting["rows"] * setting["new"] / min(values):10.0f} tokens a second at best')
    conclude(
        'generation',
        ratios={case: ratio(seconds[f'transformers, {case}'], seconds[f'kdjax, {case}']) for case in CASES},
        goals=GOALS,
        versions={'torch': torch.__version__, 'transformers': transformers.__version__},
    )


if __name__ == '__main__':
    main()
