"""The table of control kinds: what a ControlNet follows, and who can draw that from a plain picture."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlKind:
    """`words` in the name of a ControlNet say that it follows this.

    `preprocessor` is the id of the row in `runtime/preprocess` that draws it, empty when nothing can yet.
    """

    id: str
    name: str
    words: tuple[str, ...]
    preprocessor: str = ""


CONTROLS = (
    ControlKind(id="canny", name="Canny edges", words=("canny",), preprocessor="canny"),
    ControlKind(id="depth", name="Depth map", words=("depth", "midas", "zoe")),
    ControlKind(id="pose", name="Pose", words=("openpose", "pose", "dwpose")),
    ControlKind(id="normal", name="Surface normals", words=("normal", "normalbae", "normals")),
    ControlKind(id="lineart", name="Line drawing", words=("lineart", "anime")),
    ControlKind(id="softedge", name="Soft edges", words=("softedge", "hed", "pidinet")),
    ControlKind(id="scribble", name="Scribble", words=("scribble", "sketch")),
    ControlKind(id="mlsd", name="Straight lines", words=("mlsd",)),
    ControlKind(id="seg", name="Areas by colour", words=("seg", "segmentation")),
    ControlKind(id="tile", name="Blurred picture", words=("tile", "blur")),
    ControlKind(id="colour", name="Colours", words=("color", "colour", "recolor")),
)
PREPROCESSORS = tuple(row.preprocessor for row in CONTROLS if row.preprocessor)


def control_kind(name: str) -> str:
    """The id of the kind that the name of a ControlNet speaks of, such as 'control_v11p_sd15_canny'; else empty."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    return next((row.id for row in CONTROLS if words & {row.id, *row.words}), "")
