"""The folder of a run: it contains one run, and only one process may train in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from queryinst_vis.errors import InputError

PATIENCE = 6.0
"""Seconds to wait for the lock: loader processes of a killed run exit within five."""


@contextmanager
def locked(work_dir: Path) -> Iterator[None]:
    """Lock a work dir, which is created if necessary.

    Only rank 0 takes the lock. It is released when the process ends for any reason;
    file systems without locks are not protected.

    Raises:
        InputError: another run uses the folder, or it cannot be written.
    """
    ranks = [os.environ.get(name, "0") for name in ("RANK", "NODE_RANK", "LOCAL_RANK")]
    if any(rank not in ("", "0") for rank in [*ranks, os.environ.get("SLURM_PROCID", "0")]):
        yield
        return
    is_new = not work_dir.exists()
    lock = FileLock(work_dir / ".lock")
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=PATIENCE)
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
            with suppress(OSError):  # holds something by now
                work_dir.rmdir()


def check_run(work_dir: Path, resume: bool) -> None:
    """Check that a folder contains a run if it is resumed, and none otherwise.

    Raises:
        InputError: it is not so.
    """
    exists = (work_dir / "config.yaml").exists()
    if exists and not resume:
        raise InputError(
            f"work dir {work_dir}: already contains a run; continue with --resume or use another "
            "folder"
        )
    if resume and not exists:
        raise InputError(f"work dir {work_dir}: contains no run to resume; start without --resume")
