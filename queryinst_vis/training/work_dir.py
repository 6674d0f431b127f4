"""The folder of a run: one run in it, and one training at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from queryinst_vis.errors import InputError

_PATIENCE = 6.0
"""Seconds to wait for the lock: loader processes of a run that was killed notice within five."""


@contextmanager
def locked(work_dir: Path) -> Iterator[None]:
    """Keep other trainings out of a work dir, which is made where missing.

    Only the first process of a run takes the lock. It ends with the process, however that ends,
    and on file systems without locks there is none.

    Raises:
        InputError: another training runs there, or the folder cannot be written.
    """
    ranks = [os.environ.get(name, "0") for name in ("RANK", "NODE_RANK", "LOCAL_RANK")]
    if any(rank not in ("", "0") for rank in [*ranks, os.environ.get("SLURM_PROCID", "0")]):
        yield
        return
    is_new = not work_dir.exists()
    lock = FileLock(work_dir / ".lock")
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_PATIENCE)
    except Timeout as error:
        raise InputError(
            f"work dir {work_dir}: another training runs in it; wait for its end or name another "
            "folder"
        ) from error
    except NotImplementedError:  # some network file systems
        pass
    except OSError as error:
        raise InputError(f"cannot write to work dir {work_dir}: {error.strerror}") from error
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        if is_new:
            with suppress(OSError):  # holds something by now
                work_dir.rmdir()


def check_run(work_dir: Path, resume: bool) -> None:
    """Refuse a folder that holds a run already, or none to resume.

    Raises:
        InputError: it does.
    """
    exists = (work_dir / "config.yaml").exists()
    if exists and not resume:
        raise InputError(
            f"work dir {work_dir}: holds a run already; go on with --resume or name another folder"
        )
    if resume and not exists:
        raise InputError(f"work dir {work_dir}: holds no run to resume; start without --resume")
