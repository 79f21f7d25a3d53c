"""`kdjax condense`: a small set that trains well, as a plain file, with its picture and its card."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Annotated, Any, Literal

import tyro
from PIL import Image

from kdjax import record as records
from kdjax.cli.machine import Machine
from kdjax.cli.printing import printer, table
from kdjax.cli.progress import progress
from kdjax.cli.stopping import Stopping
from kdjax.data.condensed import CondensedSet, load_condensed, save_condensed
from kdjax.errors import UserError
from kdjax.record import write_atomically
from kdjax.report import condensing as report
from kdjax.report.condensing_card import card, card_json, card_text, grid
from kdjax.run import verify as verification
from kdjax.run.condensing import comparison, made_set
from kdjax.run.group import distributed
from kdjax.run.preemption import Preemption
from kdjax.run.store import Store
from kdjax.stage import Train, graph
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.fair import RS2, beside_baselines, by_size
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.condensing.methods import METHODS, method
from kdjax.tasks.condensing.stored import stored


@dataclasses.dataclass(frozen=True)
class Condense(Machine):
    """Condense a data set, measure a condensed set, or compare methods. Other options change the task (--set-steps,
    --student, --teacher, --transfer, --steps and so on, see `CondensedImages`)."""

    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar='DATA')]
    """digits, mnist5k, fashion_mnist, photo_crops, npz:FOLDER or tfds:NAME."""
    ipc: tuple[int, ...] = (10,)
    """Images per class: one number, or several with --table."""
    method: tuple[str, ...] = ()
    """How it is made: one name with --out; several, or all, with --table."""
    out: pathlib.Path | None = None
    """Write the set to this .npz file, and its picture and card beside it."""
    measure: pathlib.Path | None = None
    """Measure the set in this .npz file, and write its card beside it."""
    table: pathlib.Path | None = None
    """Compare methods at every size, and write the record to this .json file and the table beside it."""
    seed: int = 0
    """The first seed: of the set, and of students and teacher."""
    seeds: int = 1
    """How many sets are made and measured; the one of the first seed is kept."""
    split: Literal['test', 'validation'] = 'test'
    """Where accuracy is taken. Settings are chosen on validation, cards and tables are of the test split."""
    dry_run: bool = False
    """Print the plan, write and run nothing."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What is asked for, found out before anything runs: the comparison, and of one set how it is made."""

    asked: Condense
    question: verification.Verification
    arms: dict[str, Train]
    task: CondensedImages
    made: Made | None = None
    name: str = ''


def condense(arguments: list[str]) -> int:
    asked, rest = tyro.cli(Condense, args=arguments, prog='kdjax condense', return_unknown_args=True)
    default = CondensedImages(dataset=asked.data, soft_transfer=True)
    task = tyro.cli(
        CondensedImages, default=default, args=rest, prog='kdjax condense DATA', description='Changes of the task.'
    )
    work = _work(asked, _checked(asked, task))
    _tell_plan(work)
    if asked.dry_run:
        return 0
    store = Store()
    with Preemption('finishing the step') as preemption, progress('condense') as shown:
        stopping = Stopping(preemption, *shown)
        with stopping.counted():
            record = verification.verify(
                work.question, store=store, progress=stopping.advance, say=stopping.say, events=stopping.events
            )
    kept = None if work.made is None else _kept(work, work.made, store)
    if distributed.is_writer():
        _show(record)
        for path in _write(work.asked, record, kept):
            print(path)
    return 0


def _checked(asked: Condense, task: CondensedImages) -> CondensedImages:
    wanted = [n for n in ('out', 'measure', 'table') if getattr(asked, n) is not None]
    if len(wanted) != 1:
        raise UserError(
            'one of --out FILE.npz (make a set), --measure FILE.npz (measure one) and --table FILE.json (compare '
            f'methods) is needed, here are {len(wanted)}'
        )
    if task.dataset != asked.data:
        raise UserError(f"--dataset {task.dataset} beside '{asked.data}': name the data set once, first")
    if task.per_class != CondensedImages.per_class:
        raise UserError(f'--per-class {task.per_class}: say --ipc {task.per_class}')
    for name, numbers in (('ipc', asked.ipc), ('seeds', (asked.seeds,))):
        for number in numbers:
            if number < 1:
                raise UserError(f'--{name} {number}: at least 1')
    for name, ending in (('out', '.npz'), ('table', '.json')):
        path = getattr(asked, name)
        if path is not None and path.suffix != ending:
            raise UserError(f"--{name} '{path}': the file's name has to end with {ending}")
    return task


def _work(asked: Condense, task: CondensedImages) -> Work:
    if asked.table is not None:
        names = list(METHODS) if asked.method in ((), ('all',)) else [name for name in asked.method if name != RS2]
        title = f'Condensed sets of {task.data.name}'
        return _compared(asked, task, by_size(task, names, asked.ipc), title)
    if asked.measure is not None:
        sized, made = stored(task, asked.measure)
        name = str(load_condensed(asked.measure).provenance['method'])
    else:
        if len(asked.ipc) != 1 or len(asked.method) != 1:
            raise UserError('--out takes one --ipc and one --method: to compare several use --table')
        (name,), (size,) = asked.method, asked.ipc
        make, sized = method(name), task.at(size)
        sized.check_classes(size)
        _refuse_other(asked, sized, name)
        made = make(sized)
    arms = beside_baselines(sized, name, made)
    title = f'{name}, {sized.per_class} images of each class of {task.data.name}'
    return dataclasses.replace(_compared(asked, sized, arms, title), made=made, name=name)


def _compared(asked: Condense, task: CondensedImages, arms: dict[str, Train], title: str) -> Work:
    question = comparison(
        f'condensing/{asked.data}', title, task, arms, seeds=asked.seeds, first_seed=asked.seed, split=asked.split,
        layout=asked.layout(), execution=asked.execution(),
    )  # fmt: skip
    return Work(asked, question, arms, task)


def _refuse_other(asked: Condense, task: CondensedImages, name: str) -> None:
    """A file that this command would not have written stays as it is."""
    if asked.out is None or not asked.out.exists():
        return
    found = load_condensed(asked.out).provenance
    new = {'method': name, 'dataset': task.data.name, 'per_class': task.per_class, 'seed': asked.seed}
    changed = [f'{k}: {found[k]!r} there, {v!r} now' for k, v in new.items() if found[k] != v]
    if changed:
        raise UserError(f"'{asked.out}' holds another set ({', '.join(changed)}): choose another --out")


def _tell_plan(work: Work) -> None:
    shown = table('arm', 'set', 'updates of the set', 'GFLOPs of the set')
    for name, arm in work.arms.items():
        sets = [s for (s,) in graph(arm).values() if isinstance(s, Train) and s is not arm and not s.shared]
        shown.add_row(
            name, arm.inputs['set'].stage.name if 'set' in arm.inputs else 'all real images',
            ', '.join(f'{s.steps}' for s in sets), f'{sum(s.cost()["student_flops"] for s in sets) / 1e9:,.1f}',
        )  # fmt: skip
    printer().print(shown)
    measuring = next(iter(work.arms.values())).cost()
    students, teacher = (measuring[f'{who}_flops'] / 1e9 for who in ('student', 'teacher'))
    print(f'measuring {next(iter(work.arms))}: {students:,.1f} GFLOPs of students, {teacher:,.1f} of the teacher')
    task, asked = work.task, work.asked
    print(
        f'{task.data.name}: {len(task.data["train"]):,} training images of {task.data.classes} classes; '
        f'{asked.seeds} seed(s) from {asked.seed}; students take {task.steps} steps of {task.batch}'
    )
    if work.made is not None:
        height, width, channels = task.data.image_shape
        images = task.per_class * task.data.classes
        print(f'the set: {images} images of {height} x {width} x {channels}')
    print('finished stages are kept: the same command goes on where it was stopped', flush=True)


def _kept(work: Work, made: Made, store: Store) -> tuple[CondensedSet, float | None]:
    """The set, and the seconds of its updates where it was made here."""
    if work.asked.measure is not None:
        return load_condensed(work.asked.measure, dataset=work.task.data), None
    return made_set(work.task, made, work.question, store, about={'method': work.name})


def _write(
    asked: Condense, record: dict[str, Any], kept: tuple[CondensedSet, float | None] | None
) -> list[pathlib.Path]:
    """The files written: of a comparison its record and table, of a set the set, its picture and its card."""
    if kept is None:
        assert asked.table is not None
        records.save(record, asked.table)
        write_atomically(asked.table.with_suffix('.md'), report.markdown(record))
        return [asked.table, asked.table.with_suffix('.md')]
    path = asked.out or asked.measure
    assert path is not None
    condensed, seconds = kept
    found = card(condensed, record, file=path.name, seconds=seconds)
    write_atomically(path.with_suffix('.json'), card_json(records.finite(found)))
    write_atomically(path.with_suffix('.md'), card_text(found))
    Image.fromarray(grid(condensed)).save(path.with_suffix('.png'))
    if asked.out is not None:
        save_condensed(path, condensed)
    return [path.with_suffix(ending) for ending in ('.npz', '.png', '.json', '.md')]


def _show(record: dict[str, Any]) -> None:
    header, body = report.cells(record)
    shown = table(*header, title=f'{record["title"]}, {record["split"]} split')
    for line in body:
        shown.add_row(*line)
    printer().print(shown)
