"""Meshes, rules and placements: what splits what, and the message for everything that cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec
from tiny import dataset

from kdjax.cli.main import main
from kdjax.errors import UserError
from kdjax.run.feed import Feed
from kdjax.run.layout import AXES, Layout, MeshShape, read_mesh, read_rules, single

STATE = {
    'variables': {'student': {'params': {'up': {'kernel': jnp.zeros((8, 16)), 'bias': jnp.zeros(16)}}, 'stats': {}}},
    'optimizer': {'student': {'mu': {'student': {'up': {'kernel': jnp.zeros((8, 16))}}, 'count': jnp.zeros(())}}},
    'memory': {'teacher': {'seen': jnp.zeros(32)}},
}
RULES = ((r'(^|/)student/(params/|stats/)?up/kernel$', (None, 'tensor')),)


def layout(**given) -> Layout:
    return Layout(AbstractMesh((2, 2, 2), AXES), **given)


def specs(made) -> dict[str, PartitionSpec]:
    leaves = jax.tree_util.tree_leaves_with_path(made)
    return {jax.tree_util.keystr(p, simple=True, separator='/'): s.spec for p, s in leaves}


class TestWhatIsSplit:
    def test_a_rule_names_an_axis_and_fsdp_takes_the_longest_that_is_left(self):
        found = specs(layout().of_state(STATE, RULES))
        assert found['variables/student/params/up/kernel'] == PartitionSpec('fsdp', 'tensor')
        assert found['optimizer/student/mu/student/up/kernel'] == PartitionSpec('fsdp', 'tensor')
        assert found['variables/student/params/up/bias'] == PartitionSpec('fsdp')

    def test_an_axis_of_one_device_keeps_nothing_from_fsdp(self):
        flat = Layout(AbstractMesh((1, 8, 1), AXES))
        rules = ((r'up/(kernel|bias)$', ('tensor',)),)
        assert specs(flat.of_state(STATE, rules))['variables/student/params/up/bias'] == PartitionSpec('fsdp')

    def test_scalars_and_tables_of_examples_stay_whole(self):
        found = specs(layout().of_state(STATE, RULES))
        assert found['optimizer/student/mu/count'] == found['memory/teacher/seen'] == PartitionSpec()

    @pytest.mark.parametrize(
        ('placement', 'expected'),
        [
            ('replicated', (None, None)),
            ('fsdp', (None, 'fsdp')),
            ('tensor', (None, 'tensor')),
            ('both', ('fsdp', 'tensor')),
        ],
    )
    def test_students_and_teachers_are_placed_apart(self, placement, expected):
        frozen = {'teacher': {'params': {'up': {'kernel': jnp.zeros((8, 16))}}}}
        rules = ((r'^teacher/params/up/kernel$', (None, 'tensor')),)
        made = layout(teacher=placement, student='replicated').of_frozen(frozen, rules)
        assert tuple(specs(made)['teacher/params/up/kernel']) == expected
        state = layout(teacher=placement, student='replicated').of_state(STATE, RULES)
        assert all(sharding.is_fully_replicated for sharding in jax.tree.leaves(state))

    def test_a_rule_of_yours_comes_first(self):
        own = read_rules(('up/kernel=tensor,',))
        assert specs(layout(own=own).of_state(STATE, RULES))['variables/student/params/up/kernel'] == PartitionSpec(
            'tensor', None
        )

    def test_one_device_is_a_mesh_too(self):
        assert single().mesh.shape == {'data': 1, 'fsdp': 1, 'tensor': 1}
        assert single().shards == 1


class TestReading:
    def test_a_mesh(self):
        assert read_mesh('data=2,tensor=4') == MeshShape(2, 1, 4)
        assert read_mesh('') == MeshShape(None, 1, 1)

    @pytest.mark.parametrize(
        ('text', 'message'),
        [
            ('dta=2', "unknown mesh axis 'dta'; did you mean 'data'?"),
            ('data=two', "mesh axis 'data=two': write it as in 'data=2', with a size of at least 1"),
            ('fsdp=0', "mesh axis 'fsdp=0': write it as in 'fsdp=2', with a size of at least 1"),
        ],
    )
    def test_a_mesh_that_cannot_be_read(self, text, message):
        with pytest.raises(UserError) as error:
            read_mesh(text)
        assert message in str(error.value)

    def test_rules(self):
        assert read_rules(('a=b/kernel=,tensor',)) == (('a=b/kernel', (None, 'tensor')),)

    @pytest.mark.parametrize(
        ('text', 'message'),
        [
            ('kernel', "sharding rule 'kernel': write PATTERN=AXIS,AXIS"),
            ('=fsdp', "sharding rule '=fsdp': write PATTERN=AXIS,AXIS"),
            ('kernel=tensr', "unknown mesh axis 'tensr'; did you mean 'tensor'?"),
        ],
    )
    def test_a_rule_that_cannot_be_read(self, text, message):
        with pytest.raises(UserError) as error:
            read_rules((text,))
        assert message in str(error.value)


class TestRefused:
    def test_a_mesh_that_does_not_take_the_devices_there_are(self):
        with pytest.raises(UserError, match='mesh data=3, fsdp=1, tensor=1 takes 3 devices, but there are 8: choose'):
            MeshShape(3).mesh([object()] * 8)
        with pytest.raises(UserError, match='mesh data=0, fsdp=16, tensor=1 takes 0 devices, but there are 8'):
            MeshShape(None, 16).mesh([object()] * 8)

    def test_a_batch_that_does_not_divide_over_the_mesh(self):
        with pytest.raises(UserError, match='a batch of 6 does not divide over data=2 x fsdp=2 devices: choose a mult'):
            Feed(dataset()['train'], batch=6, seeds=(0,), chunk=2, layout=layout())

    def test_a_rule_that_no_path_has(self):
        with pytest.raises(UserError, match=r"unknown sharding rule 'up/kernle'; .*no path has it"):
            layout(own=read_rules(('up/kernle=fsdp',))).of_state(STATE, RULES)

    def test_two_rules_that_disagree(self):
        rules = (*RULES, ('kernel', ('tensor', None)))
        with pytest.raises(UserError, match=r"a model's rules disagree: '.*' .* and 'kernel' .*: narrow"):
            layout().of_state(STATE, rules)

    def test_a_rule_with_more_axes_than_the_array(self):
        with pytest.raises(UserError, match=r'up/bias \[16\]: its rule .* names 2 axes, and it has 1'):
            layout(own=read_rules(('up/bias=fsdp,tensor',))).of_state(STATE, RULES)

    def test_an_axis_that_does_not_divide(self):
        odd = {'variables': {'student': {'params': {'up': {'kernel': np.zeros((8, 15))}}}}}
        with pytest.raises(UserError, match=r'up/kernel \[8, 15\]: 15 does not divide over tensor=2: choose another'):
            layout().of_state(odd, RULES)

    def test_a_placement_that_is_none(self):
        with pytest.raises(UserError, match="unknown placement 'fdsp'; did you mean 'fsdp'"):
            layout(teacher='fdsp')

    def test_on_the_command_line(self, capsys, tmp_path):
        assert main(['run', 'quickstart', '--mesh', 'data=3', '--out', str(tmp_path / 'run')]) == 1
        assert 'mesh data=3, fsdp=1, tensor=1 takes 3 devices, but there are 1' in capsys.readouterr().err
