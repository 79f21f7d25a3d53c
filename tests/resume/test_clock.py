"""Saving by the clock: due every so many seconds, looked at often enough, and never where it is off."""

from kdjax.run.clock import Clock


def due_at(seconds, per_step, *, steps=1000, every=1):
    """The steps at which a save was due, each made at once, and how often anyone looked at the clock."""
    now, looks = [0.0], []

    def read():
        looks.append(now[0])
        return now[0]

    clock, due = Clock(seconds, clock=read), []
    for step in range(every, steps + 1, every):
        now[0] += every * per_step
        if clock.due(step):
            due.append(step)
            clock.saved(step)
    return due, len(looks)


def test_a_save_is_due_every_so_many_seconds_of_steps():
    due, _ = due_at(10.0, 0.1)
    assert all(100 <= b - a <= 102 for a, b in zip([0, *due], due, strict=False)) and len(due) == 9


def test_quick_steps_do_not_ask_the_clock_each_time():
    due, looks = due_at(10.0, 0.001, steps=100_000)
    assert len(due) == 9 and looks < 2000


def test_steps_longer_than_the_interval_are_saved_each():
    assert due_at(1.0, 2.0, steps=5)[0] == [1, 2, 3, 4, 5]


def test_zero_seconds_are_never():
    assert due_at(0.0, 100.0)[0] == []


def test_chunks_that_pass_over_the_step_to_look_at_are_looked_at():
    due, _ = due_at(10.0, 0.1, every=7)
    assert all(step % 7 == 0 for step in due) and 8 <= len(due) <= 10
