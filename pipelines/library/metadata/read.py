"""Reading a picture's generation data back. No file is trusted: damage gives less data, not an error."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pipelines.library.metadata import carriers
from pipelines.library.metadata.infotext import Infotext, parse
from pipelines.library.metadata.understand import Understood, from_infotext, from_own_json
from pipelines.library.metadata.write import OWN, PARAMETERS
from pipelines.spec.request import GenerationRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPicture:
    """`request` as it was sent (ours) or as far as it is understood (other tools').

    `seed` is this picture's own, None when unknown. `infotext` is A1111's text as it stands in the file,
    `fields` its keys and values, also those without a use here; both are foreign text: show them plain.
    `notes` say what was left out of the request and why.
    """

    request: GenerationRequest
    seed: int | None = None
    image_index: int = 0
    infotext: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def read_request(path: Path | str) -> StoredPicture | None:
    """None when the file is no PNG, JPEG or WebP, cannot be opened or carries no generation data."""
    try:
        texts = carriers.texts(Path(path))
    except (OSError, ValueError):
        return None
    text = texts.get(PARAMETERS, "")
    info = parse(text)
    understood = from_own_json(texts.get(OWN, "")) or _of_infotext(text, info)
    if understood is None:
        return None
    return StoredPicture(
        request=understood.request,
        seed=understood.seed,
        image_index=understood.image_index,
        infotext=text,
        fields=info.fields,
        notes=understood.notes,
    )


def _of_infotext(text: str, info: Infotext) -> Understood | None:
    # Other tools keep JSON under the same keyword; taking it for a prompt would be worse than nothing.
    return None if not text.strip() or _is_json(text) else from_infotext(info)


def _is_json(text: str) -> bool:
    if text.lstrip()[0] not in "{[":
        return False
    try:
        json.loads(text)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True
