"""What a plan says of memory and operations, counted by hand."""

import dataclasses

import jax
import numpy as np
import pytest

from kdjax.algorithms.algorithm import Execution
from kdjax.data.dataset import ArraySource, Origin
from kdjax.data.text import TextDataset
from kdjax.data.tokenizers import ByteTokenizer
from kdjax.models.decoder import DecoderConfig, decoder, gpt2_config
from kdjax.tasks import plan
from kdjax.tasks.checkpoints import Loaded
from kdjax.tasks.distillation import Distillation
from kdjax.tasks.objective_text import read_objective
from kdjax.tasks.words import Words

LLAMA = DecoderConfig(300, 8, 2, 2, 12, tied=False)
BLOCK = 4 * 8 * 8 + 3 * 8 * 12 + 2 * 8
MULTIPLIED = 300 * 8 + 8 + 2 * BLOCK
"""Head, last norm and blocks."""
ROW = 16


def loaded(config, dtype='float32'):
    shapes = jax.eval_shape(decoder(config).init, jax.random.key(0), None)
    variables = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), shapes)
    return Loaded('model', config, decoder(config), variables, '', None)


def work(objective='kl_forward', student=LLAMA, teacher=LLAMA, dtype='float32', **fields):
    column = np.zeros((3, ROW + 1), np.int32)
    data = TextDataset(
        name='rows', splits={'train': ArraySource({'tokens': column})}, identity='', origin=Origin('', '', ''),
        tokenizer=ByteTokenizer(), length=ROW,
    )  # fmt: skip
    return Distillation(**{
        'teacher': loaded(teacher, dtype), 'student': loaded(student), 'words': Words(ByteTokenizer()), 'data': data,
        'spec': read_objective(objective), 'steps': 5, 'batch': 4, **fields,
    })  # fmt: skip


def test_six_for_the_student_and_two_for_the_teacher_of_each_token():
    larger = dataclasses.replace(LLAMA, depth=6)
    assert plan.tokens(work()) == 5 * 4 * ROW
    expected = 5 * 4 * ROW * (6 * MULTIPLIED + 2 * (MULTIPLIED + 4 * BLOCK))
    assert plan.operations(work(teacher=larger)) == expected
    assert plan.operations(work('labels', teacher=larger)) == 5 * 4 * ROW * 6 * MULTIPLIED


def test_a_table_that_is_looked_up_is_not_multiplied_and_one_that_is_a_head_is():
    tied = dataclasses.replace(LLAMA, tied=True)
    assert plan.operations(work('labels', tied)) == plan.operations(work('labels'))
    short, long = (gpt2_config(300, 8, 2, 2, context=context) for context in (16, 64))
    assert plan.operations(work('labels', short)) == plan.operations(work('labels', long))


def test_weights_gradients_and_moments_of_adam():
    whole = 4 * (MULTIPLIED + 300 * 8)
    needs = plan.memory(work(dtype='bfloat16'), Execution())
    assert (needs['student weights trained'], needs['gradients'], needs['optimizer']) == (whole, whole, 2 * whole)
    assert needs['teacher weights'] == whole / 2
    split = plan.memory(work(dtype='bfloat16'), Execution(), split=2)
    assert split['optimizer'] == whole and split['teacher weights'] == whole / 4


def test_adapters_are_all_that_has_moments():
    needs = plan.memory(work(adapters=2), Execution())
    a_block = 2 * (4 * (8 + 8) + 3 * (8 + 12))
    assert needs['student weights trained'] == 4 * 2 * a_block
    assert needs['optimizer'] == 2 * needs['student weights trained']
    assert needs['student weights held'] == 4 * (MULTIPLIED + 300 * 8)


@pytest.mark.parametrize('execution', [Execution(accumulate=4), Execution(remat=True)], ids=['accumulate', 'remat'])
def test_what_lowers_the_peak_lowers_the_estimate(execution):
    name = 'activations (estimate)'
    assert plan.memory(work(), execution)[name] < plan.memory(work(), Execution())[name]
