"""The routes of the review page. Requests name frames, never paths."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from http import HTTPStatus
from importlib.resources import files
from itertools import count
from threading import Lock
from typing import Any, Literal

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from queryinst_vis.errors import InputError
from queryinst_vis.formats.run_file import source_of_run
from queryinst_vis.review.action_lines import parse_record
from queryinst_vis.review.actions import Action
from queryinst_vis.review.edits import ConflictError
from queryinst_vis.review.outlines import outlines_of
from queryinst_vis.review.pieces import spans_of
from queryinst_vis.review.queue import suggest
from queryinst_vis.review.session import ActionResult, ReviewSession
from queryinst_vis.review.web.frame_images import FrameImages
from queryinst_vis.review.web.guard import read_json
from queryinst_vis.utils.palette import track_colour

_ASSETS = {
    "queryinst_vis.review.web": (
        "review.html", "review.css", "media.js", "editor.js", "panel.js", "queue.js", "review.js"
    ),
    "queryinst_vis.report": (
        "page.css", "player.css", "masks.js", "timeline.js", "keyboard.js", "player.js"
    ),
}  # fmt: skip
_MAX_SUGGESTIONS = 500
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_CONSTANT = 1e-3  # seconds; tolerance of a constant frame rate


def make_app(
    session: ReviewSession, images: FrameImages | None, formats: Sequence[str]
) -> Starlette:
    """The application without its ``Guard``.

    Args:
        session: the review session.
        images: images of its frames; None: the video is unknown.
        formats: export formats.
    """
    handlers = _Handlers(session, images, formats)
    routes = [
        Route("/", handlers.page),
        Route("/assets/{name}", handlers.asset),
        Route("/review", handlers.review),
        Route("/frame/{index:int}", handlers.frame),
        Route("/picture/{index:int}", handlers.picture),
        Route("/outlines/{index:int}/{track:int}", handlers.outlines),
        Route("/suggestions", handlers.suggestions),
        Route("/action", handlers.action, methods=["POST"]),
        Route("/export", handlers.export, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        exception_handlers={InputError: _error, ConflictError: _conflict, _StaleError: _stale},
    )


class _StaleError(Exception):
    """The page shows an earlier state, since another window has changed the tracks."""


class _Handlers:
    def __init__(
        self, session: ReviewSession, images: FrameImages | None, formats: Sequence[str]
    ) -> None:
        self._session, self._images, self._formats = session, images, formats
        self._lock = Lock()  # of actions

    @cached_property
    def _assets(self) -> dict[str, str]:
        return {
            name: files(package).joinpath("assets", name).read_text(encoding="utf-8")
            for package, names in _ASSETS.items()
            for name in names
        }

    async def page(self, request: Request) -> Response:
        return self._text("review.html")

    async def asset(self, request: Request) -> Response:
        return self._text(request.path_params["name"])

    def _text(self, name: str) -> Response:
        if name not in self._assets:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return Response(self._assets[name], media_type=_TYPES[name.rpartition(".")[2]])

    async def review(self, request: Request) -> Response:
        """The state of the review, without frames."""
        session = self._session
        height, width = session.size
        return JSONResponse(
            {
                "name": session.video.name,
                "results": session.index.identity.sha256,
                "width": width,
                "height": height,
                "aspect": width / height * _pixel_aspect(session.run),
                "count": len(session),
                "numbers": _packed(session.index.numbers, 0),
                "seconds": _packed(self._seconds(), _CONSTANT),
                "hasVideo": self._images is not None,
                "formats": list(self._formats),
                **await run_in_threadpool(self._tracks),
            }
        )

    async def frame(self, request: Request) -> Response:
        """The regions of a frame."""
        view = await run_in_threadpool(self._session.frame, self._index(request))
        regions = [
            {
                "track": region.track_id,
                "score": region.score,
                "box": region.box,
                "counts": region.segmentation["counts"],
                "origin": region.origin,
                "polygons": region.polygons,
            }
            for region in view.regions
        ]
        return JSONResponse({"regions": regions, "isChecked": view.is_checked})

    async def picture(self, request: Request) -> Response:
        """A frame as JPEG."""
        if self._images is None:
            raise InputError("the path of the video is unknown; restart with --video FILE")
        width = request.query_params.get("width", "")
        wanted = int(width) if width.isdecimal() and len(width) < 6 else self._session.size[1]
        jpeg = await self._images.jpeg(self._index(request), wanted)
        return Response(jpeg, media_type="image/jpeg")

    async def outlines(self, request: Request) -> Response:
        """The region of a track in a frame as polygons, for editing."""
        view = await run_in_threadpool(self._session.frame, self._index(request))
        wanted = request.path_params["track"]
        for region in view.regions:
            if region.track_id == wanted:
                return JSONResponse(region.polygons or outlines_of(region.segmentation))
        raise HTTPException(HTTPStatus.NOT_FOUND)

    async def suggestions(self, request: Request) -> Response:
        """The suggestions, by descending expected gain."""
        found = await run_in_threadpool(suggest, self._session)
        return JSONResponse([each.to_json() for each in found[:_MAX_SUGGESTIONS]])

    async def action(self, request: Request) -> Response:
        """Apply an action, which is on disk before the response is sent."""
        content = await read_json(request)
        state = content.pop("state", None) if isinstance(content, dict) else None
        action, record_id = parse_record(content)
        return JSONResponse(await run_in_threadpool(self._apply, action, record_id, state))

    def _apply(self, action: Action, record_id: str | None, state: Any) -> dict[str, Any]:
        """Apply an action to the state that the page shows; None: whatever the state is."""
        with self._lock:
            records = self._session.records
            is_repeated = any(record.id == record_id for record in records)
            if state not in (None, len(records)) and not is_repeated:
                raise _StaleError
            return self._changes(self._session.apply(action, record_id))

    async def export(self, request: Request) -> Response:
        """Export the corrected tracks to a new folder next to the journal."""
        content = await read_json(request)
        fields = content if isinstance(content, dict) else {}
        to, frames = fields.get("format"), fields.get("frames")
        if to not in self._formats or frames not in ("checked", "all"):
            raise InputError("select a format, and the frames: checked or all")
        return JSONResponse({"message": await run_in_threadpool(self._export, str(to), frames)})

    def _export(self, to: str, frames: Literal["checked", "all"]) -> str:
        from queryinst_vis.review.export import export  # imports torch, which takes seconds

        exports = self._session.folder / "exports"
        number = next(n for n in count(1) if not (exports / f"{to}-{n}").exists())
        return export(self._session, exports / f"{to}-{number}", to, frames)

    def _index(self, request: Request) -> int:
        index: int = request.path_params["index"]
        if not index < len(self._session):
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return index

    def _seconds(self) -> np.ndarray:
        """The time of each frame; unknown times follow the frame rate of the results."""
        seconds = self._session.index.seconds
        if np.isnan(seconds).any():
            return np.arange(len(seconds)) / (self._session.video.fps or 25.0)
        return seconds

    def _tracks(self) -> dict[str, Any]:
        """All tracks, and the marks of the same state."""
        with self._lock:
            tracks = [_track(track.to_json()) for track in self._session.tracks()]
            return {"tracks": tracks, **self._marks()}

    def _marks(self) -> dict[str, Any]:
        state = self._session.state
        return {
            "classes": state.class_names,
            "checked": state.checked,
            "canUndo": self._session.can_undo,
            "canRedo": self._session.can_redo,
            "state": len(self._session.records),
        }

    def _changes(self, result: ActionResult) -> dict[str, Any]:
        tracks = self._session.state.tracks
        shown = [id_ for id_ in (*result.changed, *result.created) if id_ in tracks]
        return {
            "result": result.to_json(),
            "tracks": [_track(self._session.track(id_).to_json()) for id_ in shown],
            "removed": result.removed,
            **self._marks(),
        }


def _track(content: dict[str, Any]) -> dict[str, Any]:
    return content | {"colour": track_colour(content["track_id"])}


def _packed(values: np.ndarray, tolerance: float) -> list[float] | dict[str, float]:
    """Evenly spaced numbers as start and step, others as a list."""
    first, last = values[0].item(), values[-1].item()
    step = (last - first) / max(1, len(values) - 1)
    if np.abs(first + step * np.arange(len(values)) - values).max() <= tolerance:
        return {"first": first, "step": step}
    found: list[float] = np.round(values, 6).tolist()
    return found


def _pixel_aspect(run: dict[str, Any] | None) -> float:
    try:
        return float(Fraction(source_of_run(run).get("pixel_aspect", 1)))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return 1.0


async def _error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, HTTPStatus.UNPROCESSABLE_ENTITY)


async def _conflict(request: Request, error: Exception) -> Response:
    """Return a conflict for the user to decide."""
    assert isinstance(error, ConflictError)
    frames = [(first, stop - 1) for first, stop in spans_of(error.frames)]
    conflict = {"first": error.first, "second": error.second, "frames": frames}
    return JSONResponse({"error": str(error), "conflict": conflict}, HTTPStatus.CONFLICT)


async def _stale(request: Request, error: Exception) -> Response:
    message = "another window has changed the tracks: the page is reloaded, please repeat"
    return JSONResponse({"error": message, "isStale": True}, HTTPStatus.CONFLICT)
