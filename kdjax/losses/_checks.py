"""What a loss refuses, in messages that name both shapes and the remedy."""

from jaxtyping import Array

Number = float | int | Array


def same_classes(student, teacher, axis: int) -> None:
    """Logits of the same shape, or a ValueError that says which of the two has to change."""
    if student.shape == teacher.shape:
        return
    shapes = f'student {student.shape}, teacher {teacher.shape}'
    if student.ndim != teacher.ndim:
        raise ValueError(f'student and teacher logits differ in rank ({shapes}): reshape one of them')
    classes = student.shape[axis], teacher.shape[axis]
    if classes[0] != classes[1]:
        raise ValueError(
            f'teacher has {classes[1]} classes, student {classes[0]} ({shapes}): '
            'select or pad the classes that both have, or check `axis`'
        )
    raise ValueError(f'student and teacher logits differ in their examples ({shapes}): pair them one to one')


def same_features(student, teacher) -> None:
    """Features of the same shape."""
    if student.shape != teacher.shape:
        raise ValueError(
            f'student features have shape {student.shape}, teacher features {teacher.shape}: '
            'put a projector on the student, or pool the larger one'
        )


def same_batch(student, teacher) -> None:
    """Features of the same number of examples, whatever their widths."""
    if student.ndim < 2 or teacher.ndim < 2 or student.shape[0] != teacher.shape[0]:
        raise ValueError(
            f'student features have shape {student.shape}, teacher features {teacher.shape}: '
            'both need a leading batch axis of the same length and at least one feature axis'
        )


def mask_shape(where, examples: tuple[int, ...]) -> None:
    """A mask with one entry for each example."""
    if where is not None and where.shape != examples:
        raise ValueError(
            f'`where` has shape {where.shape}, the examples {examples}: give one boolean for each example'
        )


def label_shape(labels, examples: tuple[int, ...]) -> None:
    """Class ids, one for each example."""
    if labels.shape != examples:
        raise ValueError(
            f'labels have shape {labels.shape}, the examples {examples}: give one class id for each example'
        )


def same_targets(name: str, logits, targets) -> None:
    """Targets (distributions, or probabilities of heads) of the logits' shape."""
    if logits.shape != targets.shape:
        raise ValueError(
            f'{name} have shape {targets.shape}, logits {logits.shape}: they need the same shape'
        )


def positive(name: str, value: Number) -> None:
    """A Python number above zero; traced values are taken on trust."""
    if isinstance(value, (int, float)) and not value > 0:
        raise ValueError(f'{name} is {value}: it has to be above 0')


def between(name: str, value: float | int, low: float | int, high: float | int) -> None:
    """A number in [low, high]."""
    if not low <= value <= high:
        raise ValueError(f'{name} is {value}: it has to lie between {low} and {high}')


def one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """A string out of a fixed few."""
    if value not in known:
        raise ValueError(f'{name} is {value!r}: choose one of {", ".join(map(repr, known))}')
