"""MiniLM: a student learns which tokens the teacher's last layer relates, without labels, words or projections.

Wang et al., MiniLM: Deep Self-Attention Distillation (arXiv 2002.10957), section 3. Last layers, as many heads on both
sides, A = softmax(Q K^T / sqrt d), R = softmax(V V^T / sqrt d), each side with its own width d of a head; the mean over
heads and tokens:

    minilm     KL(A_T || A_S) + KL(R_T || R_S)          attention   the first term alone
    assisted   an assistant of the teacher's depth and the student's width learns so first (its steps are extra)
    masked     cross-entropy of words that are hidden, without a teacher; the teacher learned so
    words      KL(p_T || p_S) of words that are hidden   hidden   mean (W h_S - h_T)^2 of last hidden states, W learned
    none       the student as it was drawn

Digits of 8 x 8 pixels are sentences of 16 words (`kdjax.tasks.pixel_words`), teacher 4 layers x 64, student 2 x 32.
Accuracy is that of a linear probe of the student's mean token, on the labels of 100 images: no fine-tuning. Steps, data
order and first weights are equal; learning rate and steps are as first written, for all: nothing was tuned.

`kdjax verify minilm`: 2.2 minutes of CPU time. Five seeds, test split: minilm - none +30.4 [+25.1, +35.8] points of
accuracy, minilm - masked +8.8 [+1.3, +16.3], minilm - attention +4.2 [+3.4, +4.9], so both relations teach. Hidden
states teach more to this probe, which reads hidden states: minilm - hidden -6.2 [-9.4, -3.0]; the student's are then
better than those of the teacher, of whom there is one (68.6 % and 65.8 %). The assistant adds nothing here: assisted -
minilm -0.3 [-3.1, +2.5].
"""

import dataclasses

from kdjax import losses
from kdjax.experiment import Experiment
from kdjax.objectives import term
from kdjax.tasks.pixel_words import PixelWords
from kdjax.tasks.task import Trained


@dataclasses.dataclass(frozen=True)
class MiniLM(PixelWords):
    assistant: str = 'encoder-32-4'


def arms(task: MiniLM):
    student, teacher, kept = task.student, task.teacher, task.cached_teacher
    words = term(losses.kl_forward, 'student', 'teacher', name='words', where='batch.hidden')
    assistant = task.trained(task.relations(task.assistant, teacher), kept, model=task.assistant, name='assistant')
    helper = task.live_teacher(Trained(task.model(task.assistant), assistant['variables']['student']), name='assistant')
    return {
        'none': task.trained(0.0 * task.hidden_words(), masked=True, steps=1),
        'masked': task.trained(task.hidden_words(), masked=True),
        'words': task.trained(words, task.live_teacher(masked=True), masked=True),
        'hidden': task.trained(task.hidden_states(), kept),
        'attention': task.trained(task.relations(student, teacher, values=False), kept),
        'minilm': task.trained(task.relations(student, teacher), kept),
        'assisted': task.trained(task.relations(student, task.assistant), helper),
    }


experiment = Experiment(
    title='MiniLM: attention and value relations of the last layer',
    systems=(448,),
    config=MiniLM(),
    arms=arms,
    claims=(
        'minilm > none on accuracy',
        'minilm > masked on accuracy',
        'minilm > hidden on accuracy',
        'minilm > attention on accuracy',
        'assisted > minilm on accuracy',
    ),
)
