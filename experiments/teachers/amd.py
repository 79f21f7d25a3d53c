"""AMD: teacher -> assistant -> student, and the assistant chosen automatically among nested cuts of the teacher.

Automatic Multi-step Distillation (arXiv 2407.04208). Hidden units are sorted by |dL/dgate|, so every prefix is a candidate;
all candidates (scales s = 0.2 .. 0.9 of the width) train at once in shared weights; the highest score on validation wins;
the student is a tenth of the teacher, starts as its prefix and learns from that assistant.

    L         CE(y, p_S) + T^2 KL(p_T^(T) || p_S^(T)) + b |h_S - h_T|^2 / width_T, on the units kept;  joint: mean_s L_s
    npsd      -(P_teacher - P_s) / (1 - s):   OUR HYPOTHESIS; the paper's formula could not be read in public
    tradeoff  P_s + 0.2 (1 - s):   the score in the code of MiniDisc, by an overlapping author

A gradient pass is one forward and backward of one network on one batch, whatever its width: a joint step is one for each
candidate. Every arm has `steps` passes in all but the last; all start from the same prefix of the same teacher.

    labels, direct    the student on CE, on L with the teacher: the whole budget
    takd              an assistant of half the width alone (all the joint passes), then the student
    amd, amd_lambda   joint training, then the student from the assistant with the best npsd, best tradeoff
    best_assistant    a student from every candidate, the best on validation, once more: that many student runs on top;
                      its metrics hold the rank correlation of both scores with the accuracy of those students
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from kdjax import losses, surgery
from kdjax.algorithms import Player
from kdjax.data.batches import evaluation_batches
from kdjax.experiment import Arm, Experiment
from kdjax.objectives import Objective, hard_labels, term
from kdjax.stage import Compute, Output
from kdjax.tasks.small_images import SmallImages, Trained


@dataclasses.dataclass(frozen=True)
class AMD(SmallImages):
    dataset: str = 'mnist5k'
    train_examples: int | None = 500
    student: str = 'mlp-26-26'
    teacher: str = 'mlp-256-256'
    norm: str = 'none'
    steps: int = 4000
    crop_padding: int = 2
    teacher_steps: int = 4000
    teacher_crop_padding: int = 2
    scales: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    joint_steps: int = 250
    middle: float = 0.5
    temperature: float = 4.0
    mimicry: float = 1.0
    tradeoff: float = 0.2


def mimicry(student, teacher):
    """Squared distance on the units that the student has, over the width of the teacher. `[batch]`."""
    return jnp.sum(jnp.square(student - teacher[:, : student.shape[1]]), axis=1) / teacher.shape[1]


def distillation(task: AMD, **networks) -> Objective:
    """L. On many networks at once where `networks` gives the axis on which student and teacher hold them."""

    def part(loss, *reads, **options):
        called = f'{loss.__name__}_{reads[0]}'.replace('.', '_')
        loss = functools.partial(loss, **options)
        if networks:
            loss = jax.vmap(loss, tuple(networks.get(r.partition('.')[0]) for r in reads), 1)
        return term(loss, *reads, name=called)

    hidden = [part(mimicry, f'student.hidden{i}', f'teacher.hidden{i}') for i in (1, 2)]
    soft = part(losses.kl_forward, 'student', 'teacher', temperature=task.temperature, t_squared=True)
    return part(losses.cross_entropy, 'student', 'batch.label') + soft + task.mimicry * (hidden[0] + hidden[1])


def rank(task: AMD, small, middle, inputs, *, key):
    """The teacher with its units sorted, and what is cut from it for others to start from."""
    model, prepare = task.model(task.teacher), task.prepare(0)

    def loss(variables, batch):
        images = prepare(batch, key=key, train=False)['image']
        logits = model.apply(variables, images, key=key, train=False)[0].prediction
        return jnp.mean(losses.cross_entropy(logits, batch['label']), where=batch['where'])

    found = surgery.importance(loss, inputs['teacher'], evaluation_batches(task.data['train'], task.batch))
    teacher = surgery.permute_units(inputs['teacher'], [jnp.argsort(-i) for i in found])
    start = surgery.keep_prefix(teacher, small)
    starts = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(task.scales)), start)
    return {'teacher': teacher, 'student': start, 'students': starts, 'middle': surgery.keep_prefix(teacher, middle)}


def score(task: AMD, inputs, *, key):
    """Both scores of every candidate, from its validation accuracy."""
    said, scales = inputs['said'], jnp.array(task.scales)
    performance = surgery.accuracies(said['student'], said['label'])
    uncut = surgery.accuracies(inputs['teacher'][:, None], said['label'])[0]
    npsd = surgery.npsd(performance, scales, uncut)
    return {'npsd': npsd, 'tradeoff': surgery.tradeoff(performance, scales, weight=task.tradeoff)}


def judge(inputs, *, key):
    """The accuracy of the student of every candidate, and how well each score ranks them."""
    true = {split: surgery.accuracies(s['student'], s['label']) for split, s in inputs['said'].items()}
    scores = inputs['scores'].items()
    found = {n: {split: surgery.rank_correlation(s, a) for split, a in true.items()} for n, s in scores}
    return {'accuracy': true['validation'], 'rank_correlation': found}


def pick(task: AMD, grid, inputs, *, key):
    """The candidate with the highest score, in the shapes of the teacher: which one it is stays data."""
    best = jnp.argmax(inputs['scores'])
    scale = jnp.array(task.scales)[best]
    assistant = surgery.mask_prefix(inputs['joint'], jnp.array(grid)[best])
    return {'assistant': assistant, 'scale': {'validation': scale, 'test': scale}}


def accuracy_of_each(task: AMD, said, labels, reference):
    """Metrics of many networks: their accuracies."""
    found = surgery.accuracies(said['student'], labels)
    return {f'scale_{s:g}/accuracy': float(a) for s, a in zip(task.scales, found, strict=True)}


def counted(cost, passes):
    return cost() | {'gradient_passes': float(passes)}


def arms(task: AMD):
    big, small = task.model(task.teacher), task.model(task.student)
    full, thin = (surgery.widths(jax.eval_shape(m.init, jax.random.key(0), None)) for m in (big, small))
    n, grid, half = len(task.scales), [surgery.scaled(full, s) for s in task.scales], surgery.scaled(full, task.middle)
    joint_passes, total = n * task.joint_steps, task.steps
    last = total - joint_passes

    def compute(name, call, **rest):
        return Compute(name=name, module=__name__, config=dataclasses.asdict(task), call=call, **rest)

    def student(assistant=None, *, steps=last, passes=total, facts=None):
        teacher = task.live_teacher(assistant) if assistant else None
        objective = distillation(task) if assistant else hard_labels()
        made = task.arm(objective, teacher, steps=steps, start=ranked['student'])
        cost = functools.partial(counted, made.cost, passes)
        return Arm(dataclasses.replace(made, cost=cost, facts=facts or {}), f'{passes} gradient passes')

    def many(name, model, teacher, steps, start, **networks):
        player = Player(model, distillation(task, **networks), task.optimizer(steps), start='start')
        bound = {'teacher': task.live_teacher(teacher)}
        made = task.play({'student': player}, bound, steps=steps, inputs={'start': start}, name=name)
        return dataclasses.replace(made, measure=functools.partial(accuracy_of_each, task), reference=None)

    def chosen(name, scores):
        inputs = {'scores': scores, 'joint': joint['variables']['student']}
        return compute(f'choice/{name}', functools.partial(pick, task, grid), inputs=inputs)

    def assisted(choice, **rest):
        facts = {'scale': choice['scale']} | rest.pop('facts', {})
        return student(Trained(big, choice['assistant']), facts=facts, **rest)

    ranked = compute(
        'ranked', functools.partial(rank, task, thin, half), inputs={'teacher': task.trained_teacher.variables},
        shared=True, data=task.data,
    )  # fmt: skip
    teacher = Trained(big, ranked['teacher'])
    nested = surgery.nested(big, grid)
    joint = many('joint', nested, teacher, task.joint_steps, ranked['teacher'], student=1)
    inputs = {'said': joint['predictions']['validation'], 'teacher': task.teacher_predictions['validation']}
    scores = compute('scores', functools.partial(score, task), inputs=inputs)
    candidates = Trained(nested, joint['variables']['student'])
    trial = many('trial', surgery.copies(small, n), candidates, last, ranked['students'], student=1, teacher=1)
    trials = compute('trials', judge, inputs={'said': trial['predictions'], 'scores': Output(scores)})
    correlations = {f'{s}_rank_correlation': trials['rank_correlation'][s] for s in ('npsd', 'tradeoff')}
    spec = '-'.join(('mlp', *map(str, half)))
    middle = task.arm(
        distillation(task), task.live_teacher(teacher), model=spec, steps=joint_passes, start=ranked['middle'],
        name='middle',
    )  # fmt: skip
    return {
        'labels': student(steps=total),
        'direct': student(teacher, steps=total),
        'takd': student(Trained(task.model(spec), middle['variables']['student'])),
        'amd': assisted(chosen('npsd', scores['npsd'])),
        'amd_lambda': assisted(chosen('tradeoff', scores['tradeoff'])),
        'best_assistant': assisted(
            chosen('trial', trials['accuracy']), passes=joint_passes + (n + 1) * last, facts=correlations
        ),
    }


experiment = Experiment(
    title='AMD: an assistant chosen among nested cuts of the teacher',
    systems=(6,),
    config=AMD(),
    arms=arms,
    claims=('amd > direct on accuracy', 'amd > best_assistant - 0.005 on accuracy'),
)
