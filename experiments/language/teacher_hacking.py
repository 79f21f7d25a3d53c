"""Teacher hacking: a student that comes nearer to its teacher, and further from what the teacher was to stand for.

Tiapkin et al., On Teacher Hacking in Language Model Distillation (arXiv 2502.02671). An oracle writes texts, teacher
and student learn from the same ones, then the student learns from the teacher alone, per token over the vocabulary:

    KL(p_T || p_S)   on the teacher's answers to 64 prompts, of 4 tokens

    offline          written once, and read for 150 epochs       narrow   the same, 16 prompts with 4 answers each
    online_teacher   the teacher answers anew at every step      online_student   the student does

Rates are constant, so `_early` is the same run after half of its steps. Proxy `kl` = KL(p_T || p_S) and golden
`kl_truth` = KL(truth || p_S) are exact at each token of held-out texts of the oracle, a Markov language. A student is
said to hack if, from `early` on, golden rises while proxy falls; if both rise it is over-fitting. `early` lies at the
lowest golden of `offline` on the validation split.

`kdjax verify teacher_hacking`: ten minutes on 2 cores with eight others at work. Five seeds, test split. On fixed
answers golden rises, offline - offline_early +0.031 [+0.014, +0.048] of kl_truth, but so does the proxy, offline -
offline_early +0.037 [+0.022, +0.053] of kl: at this size it is over-fitting, which a look at held-out prompts would
show without an oracle. The rest is as claimed. Fresh answers improve both to the end, online_teacher -
online_teacher_early -0.071 [-0.097, -0.044] of kl_truth, online_student - online_student_early -0.073 [-0.110, -0.036]
of kl_truth; fewer prompts are worse, narrow - offline +0.034 [+0.013, +0.055] of kl_truth.
"""

import dataclasses
from functools import cached_property

import jax
import numpy as np
import optax

from kdjax.algorithms.stored_texts import stored_texts, write
from kdjax.algorithms.writing import first_tokens, written
from kdjax.data.dataset import ArraySource
from kdjax.experiment import Experiment
from kdjax.objectives import hard_labels, kl
from kdjax.stage import Compute, Output
from kdjax.tasks.oracle_lm import OracleLM

COLUMNS = ('tokens', 'segment', 'counted')


@dataclasses.dataclass(frozen=True)
class TeacherHacking(OracleLM):
    rows: int = 64
    teacher_rows: int = 4096
    student: str = 'llama-32-1'
    batch: int = 16
    learning_rate: float = 2e-3
    steps: int = 600
    evaluations: int = 6
    teacher_steps: int = 1200
    warm_steps: int = 200
    warm_batch: int = 48
    early: int = 300
    prompt: int = 4
    answers: int = 4

    def optimizer(self, steps=None, learning_rate=None):
        rate = optax.linear_schedule(0.0, learning_rate or self.learning_rate, 50)
        return optax.adamw(rate, weight_decay=self.weight_decay)

    @cached_property
    def warm(self) -> Output:
        """The student after the oracle's texts, one for each seed."""
        stage = self.arm(hard_labels(), steps=self.warm_steps, batch=self.warm_batch, name='warm')
        return dataclasses.replace(stage, data=self.teacher_data)['variables']['student']

    def writer(self, who: str, spec: str):
        return written({who: self.language_model(spec)}, first_tokens(self.prompt))

    def answered(self, name: str, each: int) -> Output:
        """As many answers of the teacher as there are rows, `each` to a prompt; written once for each seed."""
        rows = self.data['train'].take(np.arange(self.rows) // each)
        source = ArraySource({column: rows[column] for column in COLUMNS})
        writer = self.writer('teacher', self.teacher)
        shapes = {n: jax.ShapeDtypeStruct(c.shape, c.dtype) for n, c in source.columns.items()}
        shapes['behaviour'] = jax.ShapeDtypeStruct((self.rows, self.length), np.float32)
        return Output(Compute(
            name=name, module=type(self).__module__, config={'prompt': self.prompt, 'each': each, 'rows': self.rows},
            inputs={'teacher': self.trained_teacher.variables}, data=self.data,
            call=lambda inputs, *, key: write(source, self.prepared(), writer, inputs, key=key),
            shapes=lambda inputs: shapes,
        ))  # fmt: skip


def arms(task: TeacherHacking):
    teacher = task.live_teacher()

    def arm(rollout, told=teacher, **options):
        return task.arm(kl(), told, start=task.warm, rollout=rollout, **options)

    def offline(name, each):
        return dataclasses.replace(teacher, inputs={**teacher.inputs, 'texts': task.answered(name, each)})

    fixed, narrow = offline('answers', 1), offline('narrow_answers', task.answers)
    theirs, own = task.writer('teacher', task.teacher), task.writer('student', task.student)
    return {
        'offline': arm(stored_texts(), fixed),
        'offline_early': arm(stored_texts(), fixed, steps=task.early),
        'narrow': arm(stored_texts(), narrow),
        'online_teacher': arm(theirs),
        'online_teacher_early': arm(theirs, steps=task.early),
        'online_student': arm(own),
        'online_student_early': arm(own, steps=task.early),
    }


experiment = Experiment(
    title='Teacher hacking: fixed answers of a teacher, and fresh ones',
    systems=(196,),
    config=TeacherHacking(),
    arms=arms,
    claims=(
        'offline > offline_early on kl_truth',
        'offline < offline_early on kl',
        'online_teacher < online_teacher_early on kl_truth',
        'online_student < online_student_early on kl_truth',
        'offline > online_teacher on kl_truth',
        'narrow > offline on kl_truth',
    ),
)
