"""Weights from the Hugging Face Hub: ``hf://OWNER/NAME[/FILE][@REVISION]``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from queryinst_vis.errors import InputError
from queryinst_vis.utils.hub import TIMEOUT, asking_the_hub

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:/([^@]+))?(?:@([\w./-]+))?")
_KINDS = (".safetensors", ".ckpt")  # both are read without executing code


def fetch_from_hub(address: str) -> Path:
    """The weights file at a hub URL, downloaded to the hub's cache on first use.

    Size and licence are printed on standard error before the download.

    Args:
        address: ``hf://OWNER/NAME[/FILE][@REVISION]``. Without FILE, the repository's only
            ``.safetensors`` file, or its ``model.safetensors``; without REVISION, its main branch.

    Raises:
        InputError: invalid URL, unknown model, file or revision, several possible files, a file
            of another kind, or the hub cannot be reached and the file is not cached.
    """
    from huggingface_hub import HfApi, hf_hub_download

    what = f"weights '{address}'"
    repo, file, revision = _parse(address)
    with asking_the_hub(what) as online:
        if not online:
            name = file or _choose(_cached_files(repo, revision), what)
            if name is None:
                raise FileNotFoundError(what)
            return Path(hf_hub_download(repo, name, revision=revision))
        info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT)
        sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
        name = file or _choose(list(sizes), what)
        if name is None:
            raise InputError(f"{what}: contains no {_KINDS[0]} file")
        if name not in sizes:
            weights = ", ".join(other for other in sizes if other.endswith(_KINDS))
            raise InputError(f"{what}: no such file; its weights files are: {weights or 'none'}")
        if name not in _cached_files(repo, info.sha):
            _announce(f"{name} of {repo}", sizes[name], info)
        return Path(hf_hub_download(repo, name, revision=revision, etag_timeout=TIMEOUT))


def _parse(address: str) -> tuple[str, str | None, str | None]:
    """Repository, file and revision of an address."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise InputError(
            f"weights '{address}': expected hf://OWNER/NAME, hf://OWNER/NAME/FILE or either of "
            "them with @REVISION"
        )
    repo, file, revision = match.groups()
    if file is not None and not file.endswith(_KINDS):
        raise InputError(f"weights '{address}': weights are {' or '.join(_KINDS)} files")
    return repo, file, revision


def _announce(name: str, size: int | None, info: ModelInfo) -> None:
    """Print the size and licence of a file to download."""
    licence = getattr(info.card_data, "license", None) or "unknown"
    amount = "unknown size" if size is None else f"{size / 1e6:.1f} MB"
    print(f"fetching {name}: {amount}, licence: {licence}", file=sys.stderr)


def _choose(names: list[str], what: str) -> str | None:
    """The default file of a repository; None if it has no weights file."""
    weights = [name for name in names if name.endswith(_KINDS[0])]
    if "model.safetensors" in weights:
        return "model.safetensors"
    if len(weights) > 1:
        raise InputError(f"{what}: specify one of its files: {', '.join(weights)}")
    return weights[0] if weights else None


def _cached_files(repo: str, revision: str | None) -> list[str]:
    """Names of the cached files of a repository."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    return sorted(
        file.file_path.relative_to(snapshot.snapshot_path).as_posix()
        for cached in repos
        if cached.repo_id == repo and cached.repo_type == "model"
        for snapshot in cached.revisions
        if (revision or "main") in (snapshot.commit_hash, *snapshot.refs)
        for file in snapshot.files
    )
