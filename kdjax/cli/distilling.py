"""`kdjax distill`: from a checkpoint to a smaller checkpoint."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Callable
from typing import Any, Literal

from kdjax.cli.machine import Machine
from kdjax.cli.parsing import options
from kdjax.cli.printing import printer, table
from kdjax.cli.progress import Advance, progress
from kdjax.errors import UserError
from kdjax.run import identity, lock
from kdjax.run.checkpoints import Checkpoints, Policy
from kdjax.run.distilling import Distilling, pace
from kdjax.run.folder import Folder
from kdjax.run.group import distributed
from kdjax.run.layout import FSDP, TENSOR, Layout
from kdjax.run.preemption import Preemption
from kdjax.run.session import Session, check_resume
from kdjax.run.stages import machine
from kdjax.run.watchdog import Watchdog
from kdjax.tasks import plan
from kdjax.tasks.checkpoints import load_decoder, load_student, load_tokenizer
from kdjax.tasks.distillation import Distillation, load_data
from kdjax.tasks.objective_text import read_objective
from kdjax.tasks.words import shared_words

STUDENT = 'student'
"""The folder of the checkpoint, inside that of the run."""

SHOWN = ('kl', 'agreement', 'perplexity', 'nll', 'accuracy', 'ece')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distill(Machine):
    """Distil a language model into a smaller one: from a checkpoint to a checkpoint."""

    teacher: str
    """A Hugging Face folder, a .gguf file, or the name of an asset (smollm2-135m)."""
    student: str
    """Likewise, or shrink:layers=N,hidden=N,heads=N,width=N: a part of the teacher."""
    data: str
    """A text file, a .jsonl file, a folder of them, or a corpus: stdlib, pydoc, docstrings, tfds:NAME."""
    out: pathlib.Path
    """The run folder; the checkpoint is written to its folder student."""
    objective: str = 'kl_forward'
    """NAME[:PARAMETER=VALUE,...][+labels[:WEIGHT]]; names are kl_forward, kl_reverse, jsd, skew_kl, skew_kl_reverse,
    total_variation, labels. jsd:beta=0.5+labels:0.5, kl_forward:temperature=2,t_squared=true."""
    vocab: Literal['error', 'pad', 'intersect'] = 'error'
    """Where vocabularies differ. pad: only by padding of the embeddings. intersect: by some tokens; compare the
    others."""
    tokenizer: str = ''
    """In place of those of the checkpoints: bytes, a tokenizer.json, or a checkpoint that has one."""
    steps: int = 1000
    """Updates of the student."""
    batch: int = 8
    """Rows of an update, of all devices together."""
    length: int = 512
    """Tokens of a row."""
    learning_rate: float = 3e-4
    """The highest: it rises over 5 % of the steps, then falls as a cosine to zero."""
    weight_decay: float = 0.01
    """Of AdamW."""
    lora: int = 0
    """Train adapters of this rank in place of all weights; 0 trains all."""
    evaluations: int = 5
    """How often the validation split is measured on the way."""
    evaluation_rows: int = 64
    """Rows of the validation split, and of the test split."""
    seed: int = 0
    """Of the order of the data, and of adapters."""
    dry_run: bool = False
    """Print the plan and stop."""
    resume: str = 'auto'
    """auto: from the newest whole checkpoint in the run folder. STEP: from that one. never: from the start."""
    save_every: int = 0
    """Steps between checkpoints of the run; 0 saves by the clock and at the end."""
    save_seconds: float = 600.0
    """Seconds between them; 0 saves by steps alone."""
    log_every: int = 10
    """Steps between rows of metrics.jsonl."""
    hang_seconds: float = 0.0
    """Seconds without progress after which the run ends with exit code 70; 0 for never."""


def distill(arguments: list[str]) -> int:
    asked = options(Distill, 'distill', arguments)
    check_resume(asked.resume)
    _check(asked)
    with Preemption() as preemption:
        layout, execution = asked.layout(), asked.execution()
        layout.check_batch(asked.batch)
        work = _work(asked)
        if distributed.is_writer():
            _tell_plan(asked, work, layout)
        if asked.dry_run:
            return 0
        with lock.hold(asked.out), Watchdog(asked.hang_seconds, asked.out) as watchdog:
            folder = _folder(asked, work, machine(layout, execution))
            distilling = Distilling(work, seed=asked.seed, layout=layout, execution=execution)
            with progress('distill') as (advance, say):
                session = _session(asked, folder, preemption, watchdog, say)
                state, report = _train(asked, distilling, session, advance)
            variables = layout.host(state['variables']['student'])
            if distributed.is_writer():
                shutil.rmtree(asked.out / STUDENT, ignore_errors=True)
                work.export(variables, asked.out / STUDENT)
            folder.finish(report)
    if distributed.is_writer():
        _tell(asked.out, report)
    return 0


def _check(asked: Distill) -> None:
    for name in ('steps', 'batch', 'length', 'evaluation_rows', 'log_every'):
        if getattr(asked, name) < 1:
            raise UserError(f'--{name.replace("_", "-")} {getattr(asked, name)}: at least 1')
    for name in ('lora', 'evaluations'):
        if getattr(asked, name) < 0:
            raise UserError(f'--{name} {getattr(asked, name)}: 0 for none, or a positive number')
    if asked.batch % asked.execution().accumulate:
        raise UserError(f'accumulate={asked.accumulate} does not divide a batch of {asked.batch}: choose a divisor')
    if not 0 < asked.learning_rate < float('inf'):
        raise UserError(f'--learning-rate {asked.learning_rate}: it has to be positive')
    if (asked.out / STUDENT).exists() and not (asked.out / 'identity.json').exists():
        raise UserError(f"'{asked.out / STUDENT}' is already there, and no run has made it: choose another --out")


def _work(asked: Distill) -> Distillation:
    """Everything that can be wrong is found here, before anything is written."""
    spec = read_objective(asked.objective)
    teacher = load_decoder(asked.teacher, dtype=asked.teacher_dtype)
    student = load_student(asked.student, teacher)
    own = load_tokenizer(asked.tokenizer) if asked.tokenizer else None
    words = shared_words(teacher, student, tokenizer=own, vocab=asked.vocab)
    data = load_data(asked.data, teacher, student, words, length=asked.length, rows=asked.evaluation_rows)
    return Distillation(
        teacher=teacher, student=student, words=words, data=data, spec=spec, steps=asked.steps, batch=asked.batch,
        learning_rate=asked.learning_rate, weight_decay=asked.weight_decay, adapters=asked.lora,
    )  # fmt: skip


def _folder(asked: Distill, work: Distillation, made_on: dict[str, Any]) -> Folder:
    aside = {'out', 'dry_run', 'resume', 'save_every', 'save_seconds', 'log_every', 'hang_seconds'}
    own = {field.name for field in dataclasses.fields(Distill)} - {field.name for field in dataclasses.fields(Machine)}
    made_of = {
        'code': identity.code(__name__),
        'data': work.data.identity,
        'teacher': work.teacher.identity,
        'student': work.student.identity,
        'versions': identity.versions(),
        **made_on,
    }
    settings = {name: getattr(asked, name) for name in sorted(own - aside)}
    return Folder(asked.out, config=settings, made_of=made_of, may_differ=tuple(made_on))


def _session(
    asked: Distill, folder: Folder, preemption: Preemption, watchdog: Watchdog, say: Callable[[str], None]
) -> Session:
    def report(line: str) -> None:
        say(line)
        folder.note('warning', line)

    policy = Policy(asked.save_every, asked.save_seconds)
    checkpoints = Checkpoints(folder.path / 'checkpoints', policy=policy, report=report)
    return Session(
        folder, checkpoints, steps=asked.steps, resume=asked.resume, preemption=preemption, watchdog=watchdog, say=say
    )


def _train(asked: Distill, distilling: Distilling, session: Session, advance: Advance) -> tuple[Any, dict[str, Any]]:
    speed = pace(session, distilling.work)

    def on_row(step: int, row: dict[str, float]) -> None:
        advance(step, asked.steps, f'loss {row["student/loss"]:.4f}, {speed(step)}')

    events = session.events(log_every=asked.log_every, on_row=on_row)
    try:
        return distilling.train(session, events, evaluations=asked.evaluations)
    finally:
        session.close()


def _tell_plan(asked: Distill, work: Distillation, layout: Layout) -> None:
    split = layout.mesh.shape[FSDP] * layout.mesh.shape[TENSOR]
    needs = plan.memory(work, asked.execution(), split=split, shards=layout.shards)
    shown = table('memory on each device', 'MB')
    for name, size in needs.items():
        shown.add_row(name, f'{size / 1e6:,.1f}')
    shown.add_row('together', f'{sum(needs.values()) / 1e6:,.1f}')
    printer().print(shown)
    print(f'{plan.tokens(work):,} tokens: {work.steps} steps of {work.batch} rows of {work.data.length}')
    seen = plan.tokens(work) / (len(work.data['train']) * work.data.length)
    print(f'data: {work.data.name}, {len(work.data["train"]):,} rows, read {seen:.2f} times')
    print(f'{plan.operations(work):.3g} FLOPs; how long that takes is told after the first steps', flush=True)


def _tell(path: pathlib.Path, report: dict[str, Any]) -> None:
    shown = table('test split', 'teacher', 'start', 'student')
    for name in SHOWN:
        values = (report[who]['test'].get(name) for who in ('teacher', 'start', 'student'))
        shown.add_row(name, *('' if value is None else f'{value:.4f}' for value in values))
    printer().print(shown)
    print(f'{path / STUDENT} {report["state_sha256"]}')
