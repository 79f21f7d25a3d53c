"""Where targets come from. Objectives cannot tell one kind from another."""

from kdjax.teachers.cached import cached as cached
from kdjax.teachers.cached import cached_hidden as cached_hidden
from kdjax.teachers.ema import ema as ema
from kdjax.teachers.live import closed_form as closed_form
from kdjax.teachers.live import ensemble as ensemble
from kdjax.teachers.live import live as live
from kdjax.teachers.live import oracle as oracle
from kdjax.teachers.past import past_self as past_self
from kdjax.teachers.stored import stored as stored
from kdjax.teachers.stored import stored_hidden as stored_hidden
from kdjax.teachers.taid import taid as taid
from kdjax.teachers.teacher import Teacher as Teacher
