"""The work dir of a training run: a single run, and a single process at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from queryinst_vis.errors import InputError

LOCK_TIMEOUT = 6.0
"""In seconds: loader processes of a killed run exit within five."""


@contextmanager
def locked(work_dir: Path) -> Iterator[None]:
    """Lock a work dir, which is created if necessary.

    Only rank 0 takes the lock. It is released when the process ends for any reason. On file
    systems without locks, there is no protection.

    Raises:
        InputError: the folder is in use by another run, or not writable.
    """
    ranks = [os.environ.get(name, "0") for name in ("RANK", "NODE_RANK", "LOCAL_RANK")]
    if any(rank not in ("", "0") for rank in [*ranks, os.environ.get("SLURM_PROCID", "0")]):
        yield
        return
    is_new = not work_dir.exists()
    lock = FileLock(work_dir / ".lock")
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=LOCK_TIMEOUT)
    except Timeout as error:
        raise InputError(
            f"work dir {work_dir}: in use by another training run; wait until it ends or use "
            "another folder"
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
            with suppress(OSError):  # not empty
                work_dir.rmdir()


def check_run(work_dir: Path, resume: bool) -> None:
    """Check that a folder contains a run if it is resumed, and none otherwise.

    Raises:
        InputError: there is no run to resume, or a new run would overwrite one.
    """
    exists = (work_dir / "config.yaml").exists()
    if exists and not resume:
        raise InputError(
            f"work dir {work_dir}: already contains a run; continue with --resume or use another "
            "folder"
        )
    if resume and not exists:
        raise InputError(f"work dir {work_dir}: contains no run to resume; start without --resume")
