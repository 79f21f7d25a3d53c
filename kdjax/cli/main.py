"""The command `kdjax`.

Exit codes: 0 done or reproduced, 3 inconclusive or contrary, 1 your error, 2 ours, 75 asked to stop (run the same
command again), 70 a hang (from the watchdog).
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from kdjax.errors import UserError, unknown
from kdjax.run.preemption import PREEMPTED, Preempted

DONE, WRONG_INPUT, OUR_FAULT, NOT_REPRODUCED = 0, 1, 2, 3

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What the system says when a disk takes nothing more."""

Command = Callable[[list[str]], int]


def _commands() -> dict[str, tuple[str, Command]]:
    from kdjax.cli import commands, condensing, distilling, doctor, sweeping, training, verifying

    return {
        'list': ('experiments, with their verdicts', commands.list_experiments),
        'show': ('one experiment: configuration, parameters, FLOPs, claims', commands.show),
        'run': ('train one arm into a run folder', training.run),
        'verify': ('train every arm over paired seeds and give the verdict', verifying.verify),
        'sweep': ('train an arm at many points of its configuration', sweeping.sweep),
        'distill': ('distil a language model: from a checkpoint to a checkpoint', distilling.distill),
        'condense': ('condense a data set into a small one, and measure it fairly', condensing.condense),
        'report': ('write the static site: every record, and the atlas of systems', commands.report),
        'data': ('which data sets are here', commands.data),
        'doctor': ('is this machine ready', doctor.doctor),
    }


def console() -> int:
    """The entry point of the shell: keeps XLA's compilations between runs, unless JAX was told where."""
    import jax

    from kdjax.data.cache import cache_folder
    from kdjax.run.group import distributed

    if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
        jax.config.update('jax_compilation_cache_dir', str(cache_folder() / 'compilations'))
    return distributed.run(main, agreed=(DONE, NOT_REPRODUCED))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the return value is the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(arguments)
    except UserError as error:
        print(f'kdjax: {error}', file=sys.stderr)
        return WRONG_INPUT
    except SystemExit as stop:  # the argument parser has spoken
        return DONE if stop.code in (0, None) else WRONG_INPUT
    except KeyboardInterrupt:
        print('kdjax: interrupted; finished stages are kept, run the same command to go on', file=sys.stderr)
        return 130
    except Preempted as stop:
        print(f'kdjax: {stop}; run the same command to go on', file=sys.stderr)
        return PREEMPTED
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            print(f'kdjax: {error}: free some space, then run the same command to go on', file=sys.stderr)
            return WRONG_INPUT
        traceback.print_exc()
        print('kdjax: this is a defect of kdjax, not of your input', file=sys.stderr)
        return OUR_FAULT


def _dispatch(arguments: list[str]) -> int:
    commands = _commands()
    if not arguments or arguments[0] in ('-h', '--help'):
        print('usage: kdjax COMMAND [--help]\n')
        for name, (about, _) in commands.items():
            print(f'  {name:8} {about}')
        return DONE if arguments else WRONG_INPUT
    name, *rest = arguments
    if name not in commands:
        raise unknown('command', name, commands)
    return commands[name][1](rest)


if __name__ == '__main__':
    sys.exit(console())
