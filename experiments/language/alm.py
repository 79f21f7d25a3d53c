"""ALM: a teacher that reads pieces of words for a student that reads bytes, by the likelihoods of pieces of text.

Minixhofer et al., Cross-Tokenizer Distillation via Approximate Likelihood Matching (arXiv 2503.20083); chunks, bias and
loss as in the authors' code (bminixhofer/tokenkit). Both read the same text; a chunk is the shortest piece between two
places where both have a cut, p and s its likelihood under teacher and student, x = p^(1/T), y = s^(1/T), T = 100:

    alm         T KL(Bernoulli(x) || Bernoulli(y)), the mean over chunks. Chunks are merged until the teacher expects a
                word to begin with more than 0.1, and p, s include the probability that one does ('append_space')
    alm_sft     alm + sft          plain_sft   the same of plain chunks, nothing merged or included
    sft         -log s of the next byte; sft_short in half the steps (stopped early)
    uld_sft     sft + 1.5 sum_i |s_(i) - p_(i)|, sorted probabilities at the start of every fourth chunk (2402.12030)

The teacher's tokens are 512 pieces (BPE), learned like itself from 0.8 MB of the standard library; the student sees
24 KB as bytes. Weights are 1 : 1 where the authors balance gradients; `bits_per_byte` is measured on the bytes of
chunks, `teacher_bits` are the teacher's there. On validation, one seed: learning rates of 3e-3, 1e-2, 3e-2 with sft and
alm_sft, the first is best for both; the weight of uld is the published one, nothing else was tried there.

`kdjax verify alm`: 4.8 minutes of CPU time. Five seeds, test split: 3.65 bits a byte with sft, 3.51 with alm_sft, the
teacher 2.37. alm_sft - sft -0.14 [-0.15, -0.12] of bits_per_byte, alm_sft - sft_short -0.17 [-0.20, -0.14] of
bits_per_byte, alm_sft - alm -0.07 [-0.09, -0.05] of bits_per_byte, alm - sft -0.07 [-0.10, -0.03] of bits_per_byte.
Stopping early is no substitute. Sorted probabilities do harm: alm_sft - uld_sft -0.21 [-0.26, -0.16] of bits_per_byte.
What merging and boundaries add is not seen: alm_sft - plain_sft -0.02 [-0.06, +0.03] of bits_per_byte. In the likeliest
byte the gain is not seen either: the teacher makes the student less sure (ece) rather than right more often.
"""

import dataclasses

from kdjax.experiment import Experiment
from kdjax.objectives import hard_labels
from kdjax.tasks.two_tokenizers import TwoTokenizers


@dataclasses.dataclass(frozen=True)
class ALM(TwoTokenizers):
    row: int = 96
    teacher_row: int = 64
    limit_bytes: int = 1_000_000
    rows: int = 256
    student: str = 'llama-32-2'
    teacher: str = 'llama-64-2'
    batch: int = 16
    teacher_steps: int = 800
    steps: int = 600
    short_steps: int = 300
    learning_rate: float = 3e-3
    evaluations: int = 2
    temperature: float = 100.0
    uld_weight: float = 1.5


def arms(task: ALM):
    teacher, sft = task.cached_teacher(), hard_labels()
    alm = task.alm(temperature=task.temperature)
    plain = task.alm(temperature=task.temperature, debiased=False)
    return {
        'sft': task.arm(sft),
        'sft_short': task.arm(sft, steps=task.short_steps),
        'uld_sft': task.arm(sft + task.uld_weight * task.uld(), teacher),
        'alm': task.arm(alm, teacher),
        'alm_sft': task.arm(alm + sft, teacher),
        'plain_sft': task.arm(plain + sft, teacher),
    }


experiment = Experiment(
    title='ALM: a teacher of word pieces for a student of bytes',
    systems=(345,),
    config=ALM(),
    arms=arms,
    claims=(
        'alm_sft < sft on bits_per_byte',
        'alm_sft < sft_short on bits_per_byte',
        'alm_sft < uld_sft on bits_per_byte',
        'alm_sft < alm on bits_per_byte',
        'alm_sft < plain_sft on bits_per_byte',
        'alm < sft on bits_per_byte',
    ),
)
