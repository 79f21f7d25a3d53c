"""Decoding: text from a decoder, token by token or speculatively, and how often drafts are accepted."""

from .acceptance import acceptance_rate, expected_block_length
from .generation import Generated, generate, generate_mixture
from .language_model import LanguageModel
from .prompts import Prompts, pad_prompts
from .sampling import GREEDY, PLAIN, Sampling, draw, log_distribution
from .speculative import Speculated, speculate
from .verification import verify

__all__ = [
    'GREEDY',
    'PLAIN',
    'Generated',
    'LanguageModel',
    'Prompts',
    'Sampling',
    'Speculated',
    'acceptance_rate',
    'draw',
    'expected_block_length',
    'generate',
    'generate_mixture',
    'log_distribution',
    'pad_prompts',
    'speculate',
    'verify',
]
