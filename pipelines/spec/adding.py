"""What is wrong with what a request adds to its model: LoRAs, ControlNets, embeddings and IP-Adapters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pipelines.spec import families
from pipelines.spec.controls import PREPROCESSORS
from pipelines.spec.errors import ModelError, shortened
from pipelines.spec.families.base import Family, Feature
from pipelines.spec.problem import Problem
from pipelines.spec.record import Kind, ModelRecord
from pipelines.spec.request import ControlInput, GenerationRequest, IpAdapterInput

MAX_WEIGHT = 10.0
MAX_CONTROL_WEIGHT = 5.0
MAX_IP_SCALE = 5.0
MAX_ADDED = 16
Parts = Mapping[str, ModelRecord]  # by their id

_OTHER = "Choose another one, or remove it from the request."


def adding_problems(request: GenerationRequest, family: Family, parts: Parts) -> Iterator[Problem]:
    """`family` is the model's; `parts` are the records of what is added. Does no I/O."""
    if Feature.LORA in family.supports:
        yield from _loras(request, family, parts)
    if Feature.CONTROL in family.supports:
        yield from _controls(request, family, parts)
    if Feature.EMBEDDING in family.supports:
        yield from _embeddings(request, family, parts)
    if Feature.IP_ADAPTER in family.supports:
        yield from _ip_adapters(request, family, parts)


def names(request: GenerationRequest) -> tuple[str, ...]:
    """The ids of everything that the request adds to its model."""
    given = (*request.loras, *request.controls, *request.embeddings, *request.ip_adapters)
    return tuple(each.model for each in given)


def added(request: GenerationRequest, records: Parts) -> dict[str, ModelRecord]:
    """The records of what the request adds, as far as they are among these."""
    return {name: records[name] for name in names(request) if name in records}


def _loras(request: GenerationRequest, family: Family, parts: Parts) -> Iterator[Problem]:
    if text := _too_many(request.loras, "LoRAs"):
        yield Problem("loras", text)
        return
    for place, lora in enumerate(request.loras):
        field = f"loras[{place}]"
        yield from _record(f"{field}.model", Kind.LORA, lora.model, family, parts)
        yield from _weight(f"{field}.weight", lora.weight)
    yield from _twice("loras", [lora.model for lora in request.loras])


def _controls(request: GenerationRequest, family: Family, parts: Parts) -> Iterator[Problem]:
    if text := _too_many(request.controls, "ControlNets"):
        yield Problem("controls", text)
        return
    for place, control in enumerate(request.controls):
        field = f"controls[{place}]"
        yield from _record(f"{field}.model", Kind.CONTROLNET, control.model, family, parts)
        yield from _control(field, control)


def _control(field: str, control: ControlInput) -> Iterator[Problem]:
    if not control.path.strip():
        yield Problem(f"{field}.path", "A ControlNet needs a picture.", "Choose one.")
    if not 0 <= control.weight <= MAX_CONTROL_WEIGHT:  # also true for NaN
        text = f"The weight must be 0 to {MAX_CONTROL_WEIGHT:g}, not {control.weight:g}."
        yield Problem(f"{field}.weight", text)
    if not 0 <= control.start < control.end <= 1:
        text = f"It must start before it ends, within 0 to 1, not {control.start:g} to {control.end:g}."
        yield Problem(f"{field}.start", text)
    if control.preprocess and control.preprocess not in PREPROCESSORS:
        text = f"There is no preprocessor '{shortened(control.preprocess)}'."
        yield Problem(f"{field}.preprocess", text, f"Known: {', '.join(PREPROCESSORS)}; or none.")


def _embeddings(request: GenerationRequest, family: Family, parts: Parts) -> Iterator[Problem]:
    if text := _too_many(request.embeddings, "embeddings"):
        yield Problem("embeddings", text)
        return
    ids = [embedding.model for embedding in request.embeddings]
    for place, name in enumerate(ids):
        yield from _record(f"embeddings[{place}].model", Kind.EMBEDDING, name, family, parts)
    words = [word.lower() for name in set(ids) if name in parts for word in parts[name].trigger_words[:1]]
    yield from _twice("embeddings", ids)
    yield from _twice("embeddings", words)


def _ip_adapters(request: GenerationRequest, family: Family, parts: Parts) -> Iterator[Problem]:
    if text := _too_many(request.ip_adapters, "IP-Adapters"):
        yield Problem("ip_adapters", text)
        return
    for place, given in enumerate(request.ip_adapters):
        field = f"ip_adapters[{place}]"
        yield from _record(f"{field}.model", Kind.IP_ADAPTER, given.model, family, parts)
        yield from _ip_adapter(field, given)


def _ip_adapter(field: str, given: IpAdapterInput) -> Iterator[Problem]:
    if not given.path.strip():
        yield Problem(f"{field}.path", "An IP-Adapter needs a picture.", "Choose one.")
    if not 0 <= given.scale <= MAX_IP_SCALE:  # also true for NaN
        yield Problem(f"{field}.scale", f"The scale must be 0 to {MAX_IP_SCALE:g}, not {given.scale:g}.")


def _too_many(inputs: Sequence[object], what: str) -> str:
    most = f"At most {MAX_ADDED} {what} can be used at once, not {len(inputs)}."
    return most if len(inputs) > MAX_ADDED else ""


def _twice(field: str, ids: list[str]) -> Iterator[Problem]:
    for name, times in Counter(ids).items():
        if times > 1:
            yield Problem(
                field, f"'{shortened(name)}' is there {times} times.", "Give it once, with one weight."
            )


def _weight(field: str, weight: float) -> Iterator[Problem]:
    if not -MAX_WEIGHT <= weight <= MAX_WEIGHT:  # also true for NaN
        yield Problem(field, f"The weight must be {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}, not {weight:g}.")


def _record(field: str, kind: Kind, name: str, family: Family, parts: Parts) -> Iterator[Problem]:
    record, what = parts.get(name), kind.named.split()[-1]
    if record is None:
        yield Problem(field, f"The {what} '{shortened(name)}' was not found.", _OTHER)
    elif record.kind is not kind:
        yield Problem(field, f"'{record.title}' is {record.kind.named}, not {kind.named}.", _OTHER)
    elif record.problem:
        yield Problem(field, f"The {what} '{record.title}' cannot be used: {record.problem}", _OTHER)
    elif (own := _family(record)) is None or own.add_ons.base != family.add_ons.base:
        made = own.name if own else f"'{shortened(record.family)}'"
        text = f"The {what} '{record.title}' was made for {made} and does not fit {family.name}."
        yield Problem(field, text, _OTHER)


def _family(record: ModelRecord) -> Family | None:
    try:
        return families.by_id(record.family)
    except ModelError:
        return None
