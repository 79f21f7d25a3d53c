"""Lines of HLO as XLA writes them: kinds, arrays, bytes, groups."""

import pytest

from kdjax.run.collectives import Array, Collective, collectives, total_bytes

GATHER = (
    '%all-gather.3 = f32[192,1024]{1,0} all-gather(%p.1), channel_id=1, replica_groups=[1,8]<=[8], dimensions={0}, '
    'use_global_device_ids=true, metadata={op_name="jit(many)/while/body/sharding_constraint"}'
)
REDUCE = (
    '  %all-reduce.1 = (f32[512]{0}, bf16[512,1024]{1,0}, /*index=2*/f32[]) all-reduce(%a, %b, %c), channel_id=2, '
    'replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add'
)
SCATTER = 'ROOT %rs = f32[128]{0:T(256)} reduce-scatter(%g), replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%add'


def test_a_gathered_weight():
    assert collectives(GATHER) == [
        Collective('all-gather', (Array('f32', (192, 1024)),), 8, 'jit(many)/while/body/sharding_constraint')
    ]
    assert collectives(GATHER)[0].bytes == 4 * 192 * 1024


def test_several_arrays_reduced_at_once_in_groups_that_are_listed():
    (found,) = collectives(REDUCE)
    assert found.arrays == (Array('f32', (512,)), Array('bf16', (512, 1024)), Array('f32', ()))
    assert (found.group, found.bytes) == (4, 4 * 512 + 2 * 512 * 1024 + 4)


def test_a_reduction_of_which_each_keeps_a_part_counts_whole():
    (found,) = collectives(SCATTER)
    assert (found.group, found.bytes) == (4, 4 * 128 * 4)


def test_of_start_and_done_the_second_counts():
    text = (
        '%s = (f32[8]{0}, f32[64]{0}) all-gather-start(%p), replica_groups=[1,8]<=[8], dimensions={0}\n'
        '%d = f32[64]{0} all-gather-done(%s)'
    )
    assert [(c.kind, c.bytes) for c in collectives(text)] == [('all-gather', 256)]


@pytest.mark.parametrize(
    ('written', 'size'),
    [
        ('{{0,1,2},{3,4,5}}', 3),
        ('[2,4]<=[8]', 4),
        ('[4,2]<=[2,2,2]T(1,0,2)', 2),
        ("mesh['axis_0'=2,'axis_1'=4,'axis_2'=3] {'axis_1'}", 4),
        ("mesh['axis_0'=2,'axis_1'=4,'axis_2'=3] {'axis_2','axis_1'}", 12),
    ],
)
def test_how_many_take_part(written, size):
    (found,) = collectives(f'%x = f32[3] all-reduce(%y), channel_id=1, replica_groups={written}, to_apply=%add')
    assert found.group == size


def test_names_of_collectives_in_other_lines_are_not_collectives():
    text = '%f = f32[8]{0} fusion(%all-gather.3), kind=kLoop\n%add = f32[] add(%a, %b)\n%all-reduce = f32[] copy(%x)'
    assert collectives(text) == []


@pytest.mark.parametrize(
    ('dtype', 'size'), [('f32', 4), ('bf16', 2), ('s8', 1), ('pred', 1), ('u64', 8), ('f8e4m3fn', 1)]
)
def test_bytes_of_types(dtype, size):
    (found,) = collectives(f'%x = {dtype}[3,2]{{1,0}} all-to-all(%y), replica_groups=[1,2]<=[2]')
    assert found.bytes == 6 * size


def test_a_total_is_of_the_kinds_asked_for():
    found = collectives('\n'.join((GATHER, REDUCE, SCATTER)))
    assert total_bytes(found, 'all-gather') == 4 * 192 * 1024
    assert total_bytes(found, 'all-reduce', 'reduce-scatter') == sum(c.bytes for c in found[1:])
