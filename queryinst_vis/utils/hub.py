"""Access to the Hugging Face Hub, with a short timeout instead of minutes of retries."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from urllib.parse import urlsplit

from queryinst_vis.errors import InputError, first_line

TIMEOUT = 5  # seconds for the hub to answer, including DNS
_ONE_AT_A_TIME = threading.RLock()  # the library's offline mode is process-wide


@contextmanager
def asking_the_hub(what: str) -> Iterator[bool]:
    """Run code that uses ``huggingface_hub``, directly or through timm.

    The library retries for minutes without a connection. Here a single request is made first; if
    it fails, the library is put into offline mode, in which it uses cached files and fails
    immediately for others.

    Args:
        what: prefix of error messages: ``"weights 'hf://OWNER/NAME'"``.

    Yields:
        Whether the hub is reachable.

    Raises:
        InputError: the request failed, with a one-line reason.
    """
    from huggingface_hub import constants, errors

    # errors of its HTTP library are OSErrors or bases of the hub's own errors
    http_errors: tuple[type, ...] = errors.HfHubHTTPError.__bases__
    expected = (OSError, errors.EntryNotFoundError, errors.HFValidationError, *http_errors)
    with _ONE_AT_A_TIME:
        offline = constants.HF_HUB_OFFLINE
        reason = "HF_HUB_OFFLINE is set" if offline else why_no_answer(constants.ENDPOINT)
        constants.HF_HUB_OFFLINE = reason is not None
        try:
            yield reason is None
        except Exception as error:
            if not isinstance(error, expected):
                raise
            if reason is None:
                raise InputError(f"{what}: {_explain(error)}") from error
            raise InputError(f"{what}: not in the local cache, and {reason}") from error
        finally:
            constants.HF_HUB_OFFLINE = offline


def _explain(error: BaseException) -> str:
    from huggingface_hub import errors

    host = "the Hugging Face Hub"
    if isinstance(error, errors.GatedRepoError):
        return f"{host} requires accepting its terms on the model's page, and 'hf auth login'"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{host} has no such model, or it is private; check OWNER/NAME, or run 'hf auth login'"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{host} has no such revision"
    return f"error of {host} ({first_line(error)})"


def why_no_answer(endpoint: str) -> str | None:
    """Why the hub cannot be reached within ``TIMEOUT``; None if it responds."""
    host = urlsplit(endpoint).hostname
    found: list[str | None] = []

    def ask() -> None:
        request = urllib.request.Request(endpoint, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT):
                found.append(None)
        except urllib.error.HTTPError:
            found.append(None)
        except (OSError, HTTPException) as error:
            found.append(f"{host} cannot be reached ({getattr(error, 'reason', error)})")

    # DNS can take longer than the timeout of a connection, so it runs in a thread
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return found[0] if found else f"{host} does not answer within {TIMEOUT} s"
