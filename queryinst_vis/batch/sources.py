"""Finds the videos that paths, globs, URLs and manifests on the command line refer to."""

from __future__ import annotations

import csv
import fnmatch
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from glob import glob, has_magic
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from queryinst_vis.batch.options import Video, VideoOptions
from queryinst_vis.batch.store import Store, file_system_of
from queryinst_vis.errors import InputError, first_line
from queryinst_vis.utils.files import natural_key
from queryinst_vis.video.http import HttpFile, is_http, origin_of, without_secrets
from queryinst_vis.video.image_sequence import images_in, is_image
from queryinst_vis.video.sources import VIDEO_SUFFIXES, distinct_names

ParseOptions = Callable[[Mapping[str, str], str], VideoOptions]
"""Parses options of ``track`` given by name; the second argument prefixes error messages."""

MANIFESTS = (".csv", ".parquet", ".jsonl", ".ndjson")
"""Suffixes of manifests: files with one row per video."""

_CONNECTIONS = 16  # concurrent HTTP requests
_SECRETS = re.compile(r"x-(amz|goog|oss)-.*|signature|sig|token|access_token", re.IGNORECASE)
"""Query parameters that grant access; they vary from one signature to the next."""

_SIGNED = re.compile(r"(x-(amz|goog|oss)-)?signature|sig|token|access_token", re.IGNORECASE)
_OF_SIGNATURES = re.compile(
    r"awsaccesskeyid|googleaccessid|expires|key-pair-id|policy"  # of Amazon and Google
    r"|s[vrtep]|spr|sip|ss|srt|ske?|skt|sks|skv|skoid|sktid",  # of Azure
    re.IGNORECASE,
)
"""Other query parameters of signed URLs; in other URLs they may identify the video."""

_IN_PATHS = "/!$&'()*+,;=:@~"
"""Characters of object names that need no encoding in a URL, besides letters and digits."""


@dataclass(frozen=True)
class _Found:
    """A video before names are assigned."""

    address: str
    version: str
    size: int | None
    options: VideoOptions


def find_videos(sources: Sequence[str], options: VideoOptions, parse: ParseOptions) -> list[Video]:
    """The videos of files, folders, globs, URLs and manifests, in a deterministic order.

    Folders are searched recursively; one with images, but no videos in it or below, is an image
    sequence and counts as a video. Equal names are made distinct by prefixing folder names, see
    ``video.sources.distinct_names``.

    Args:
        sources: paths, globs, URLs or manifests.
        options: default options.
        parse: parses the options of a manifest row, which override the defaults.

    Raises:
        InputError: no video is found, a video is given twice, or a manifest is invalid.
    """
    found = [video for source in sources for video in _expand(source, options, parse)]
    origins = [origin_of(_unsigned(video.address)) for video in found]
    _check_distinct(origins)
    names = distinct_names([_stem(video.address) for video in found], origins)
    return [
        Video(name, video.address, origin, video.version, video.size, video.options)
        for name, origin, video in zip(names, origins, _with_versions(found), strict=True)
    ]


def _check_distinct(origins: Sequence[str]) -> None:
    for origin, count in Counter(origins).items():
        if count > 1:
            raise InputError(
                f"video {origin}: is given {count} times; a data set holds each video once: remove "
                "the others, or track them into another --out if their options differ"
            )


def _expand(
    source: str, options: VideoOptions, parse: ParseOptions, manifests: tuple[str, ...] = ()
) -> Iterator[_Found]:
    """The videos of a source; ``manifests`` are the origins of those in which it is listed."""
    if Path(urlsplit(source).path if "://" in source else source).suffix.lower() in MANIFESTS:
        origin = origin_of(source)
        if origin in manifests:
            raise InputError(f"manifest {source}: refers to itself")
        yield from _from_manifest(source, options, parse, (*manifests, origin))
    elif is_http(source):
        yield _Found(source, "", None, options)
    elif "://" in source:
        yield from _from_file_system(source, options)
    else:
        for path in _local_videos(source):
            yield _Found(str(path), *_local_version(path), options)


# Local files


def _local_videos(source: str) -> Iterator[Path]:
    path = Path(source)
    if not path.exists() and has_magic(source):
        found = sorted(map(Path, glob(source, recursive=True)), key=natural_key)
        chosen = [each for each in found if each.is_dir() or _is_video(each.name)]
        if not chosen:
            raise InputError(f"{source}: matches no video")
        for each in chosen:
            yield from _local_videos(str(each))
        return
    if not path.exists():
        raise InputError(f"video {source}: no such file or folder")
    if not path.is_dir():
        yield path
        return
    videos = list(_videos_below(path, set()))
    if not videos:
        suffixes = " ".join(sorted(VIDEO_SUFFIXES))
        raise InputError(f"{source}: contains no video (suffixes: {suffixes})")
    yield from videos


def _videos_below(folder: Path, visited: set[Path]) -> Iterator[Path]:
    """The videos in a folder and its subfolders, each of which is visited once despite links."""
    real = folder.resolve()
    if real in visited:
        return
    visited.add(real)
    entries = [each for each in folder.iterdir() if not each.name.startswith(".")]
    entries.sort(key=natural_key)
    videos = [each for each in entries if _is_video(each.name) and each.is_file()]
    for each in entries:
        if each.is_dir():
            videos += _videos_below(each, visited)
    # pictures beside videos or above them are covers and thumbnails
    if any(is_image(each) for each in entries) and not any(each.is_file() for each in videos):
        yield folder
    yield from videos


def _local_version(path: Path) -> tuple[str, int]:
    files = images_in(path) if path.is_dir() else [path]
    states = [file.stat() for file in files]
    size = sum(state.st_size for state in states)
    newest = max(state.st_mtime_ns for state in states)
    return f"{len(files)} {size} {newest}", size


# Remote files


def _from_file_system(address: str, options: VideoOptions) -> Iterator[_Found]:
    """A file, folder or glob in a file system supported by pyarrow."""
    from pyarrow import fs

    parts = urlsplit(address)
    fixed = parts.path
    while has_magic(fixed):
        fixed = fixed.rpartition("/")[0]
    system, root = file_system_of(urlunsplit(parts._replace(path=fixed)))
    name = without_secrets(address)
    try:
        info = system.get_file_info(root)
        if info.type == fs.FileType.File:
            infos = [info]
        else:
            selector = fs.FileSelector(root, recursive=True, allow_not_found=True)
            infos = [info for info in system.get_file_info(selector) if _is_video(info.path)]
    except OSError as error:
        reason = first_line(error)
        raise InputError(f"{name}: cannot be listed ({reason})") from error
    pattern = root + parts.path[len(fixed) :]
    if pattern != root:
        infos = [info for info in infos if fnmatch.fnmatchcase(info.path, pattern)]
    if not infos:
        raise InputError(f"{name}: contains no video")
    for info in sorted(infos, key=lambda info: natural_key(Path(info.path))):
        path = fixed.rstrip("/") + quote(info.path[len(root.rstrip("/")) :], _IN_PATHS)
        version = f"{info.size} {info.mtime_ns}"
        yield _Found(urlunsplit(parts._replace(path=path)), version, info.size, options)


def _with_versions(videos: list[_Found]) -> list[_Found]:
    """The videos with the versions and sizes that HTTP servers report."""
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        return list(pool.map(lambda v: v if v.version else _with_server_version(v), videos))


def _with_server_version(video: _Found) -> _Found:
    """Unchanged if the server does not respond: it may when tracking starts."""
    try:
        file = HttpFile(video.address)
    except (OSError, HTTPException, ValueError):
        return video
    file.close()
    headers = file.headers
    version = headers.get("ETag") or f"{file.length} {headers.get('Last-Modified', '')}"
    return replace(video, version=version, size=file.length)


def _unsigned(address: str) -> str:
    """A URL without its signature parameters."""
    if "://" not in address:
        return address
    parts = urlsplit(address)
    query = parse_qsl(parts.query, keep_blank_values=True)
    is_signed = any(_SIGNED.fullmatch(name) for name, _ in query)
    kept = [
        (name, value)
        for name, value in query
        if not (_SECRETS.fullmatch(name) or (is_signed and _OF_SIGNATURES.fullmatch(name)))
    ]
    return urlunsplit(parts._replace(query=urlencode(kept)))


def _is_video(name: str) -> bool:
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def _stem(address: str) -> str:
    path = Path(unquote(urlsplit(address).path) if "://" in address else address).absolute()
    return (path.name if "://" not in address and path.is_dir() else path.stem) or "video"


# Manifests


def _from_manifest(
    source: str, options: VideoOptions, parse: ParseOptions, manifests: tuple[str, ...]
) -> Iterator[_Found]:
    name = source if "://" not in source else without_secrets(source)
    for number, row in enumerate(_rows(source, name), 1):
        where = f"manifest {name}, row {number}"
        given = {
            column: _as_argument(value) for column, value in row.items() if value not in (None, "")
        }
        path = given.pop("path", "")
        if not path:
            raise InputError(f"{where}: has no `path`")
        if "://" not in path:
            path = _beside(source, path)
        own = parse(given, where) if given else options
        try:
            yield from _expand(path, own, parse, manifests)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error


def _beside(manifest: str, path: str) -> str:
    """The address of a path relative to a manifest; absolute paths are local files."""
    if "://" not in manifest or Path(path).is_absolute():
        return str(Path(manifest).parent / path)
    return f"{manifest.rpartition('/')[0]}/{quote(path, _IN_PATHS)}"


def _rows(source: str, name: str) -> list[dict[str, Any]]:
    """The rows of a manifest; ``name`` identifies it in messages."""
    folder, _, file = source.rpartition("/")
    store = Store(folder or ".") if "://" in source else Store(Path(source).parent)
    file = file if "://" in source else Path(source).name
    data = store.read(file)
    if data is None:
        raise InputError(f"manifest {name}: no such file")
    try:
        if file.lower().endswith(".parquet"):
            import pyarrow
            from pyarrow import parquet

            return parquet.read_table(pyarrow.BufferReader(data)).to_pylist()
        text = data.decode("utf-8-sig")
        if file.lower().endswith(".csv"):
            rows = list(csv.DictReader(text.splitlines(), strict=True))
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, csv.Error, OSError, RecursionError) as error:
        raise InputError(f"manifest {name}: cannot be read ({error})") from error
    if not all(isinstance(row, dict) and None not in row for row in rows):
        raise InputError(f"manifest {name}: every row must have a value per column")
    return rows


def _as_argument(value: Any) -> str:
    """The value in command-line syntax."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
