"""The tables of what makes a step quicker: switches that only reorder the work, and caches that leave some out."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.spec.families.base import Family
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest
from pipelines.spec.weights import WEIGHTS, bits_now

_FP8 = next(row for row in WEIGHTS if row.id == "fp8")
_ALL = frozenset({"unet", "transformer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCache:
    """`id` as in `Speed.step_cache`; `limit` is its default for `Speed.cache_limit`, of `least` to `most`.

    `whole`: the limit is a number of steps. `limit_words` tell what it limits, `words` what it gains and costs.
    """

    id: str
    title: str
    limit: float
    least: float
    most: float
    whole: bool = False
    limit_words: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """`id` is a field of `Speed`; `denoisers` are the parts it works with; `excludes` are ids of `EXCLUDED`."""

    id: str
    title: str
    denoisers: frozenset[str]
    excludes: tuple[str, ...]
    words: str


STEP_CACHES = (
    StepCache(
        id="first_block", title="First block", limit=0.08, least=0.01, most=0.5,
        limit_words="A step is left out while the first block's answer has changed by less than this part.",
        words="Draws only the first block of a step that hardly differs from the one before.",
    ),
    StepCache(
        id="taylorseer", title="TaylorSeer", limit=5, least=2, most=10, whole=True,
        limit_words="One step of so many is drawn; the others are predicted from how it changed.",
        words="Predicts what a step will answer from how the answers have changed so far.",
    ),
    StepCache(
        id="magcache", title="MagCache", limit=0.06, least=0.01, most=0.5,
        limit_words="Steps are left out until their expected errors add up to this.",
        words="Leaves out steps by how much each changes a picture of FLUX.1. Another model is measured first, while "
        "its first picture is drawn in full.",
    ),
)  # fmt: skip
SWITCHES = (
    Switch(
        id="step_cache", title="Step cache", denoisers=frozenset({"transformer"}), excludes=("control",),
        words="Leaves out what hardly changes from one step to the next. The more steps, the more it gains. It is "
        "another picture than without: the subject mostly stays, details differ.",
    ),
    Switch(
        id="compile", title="Compile blocks", denoisers=_ALL, excludes=("fp8",),
        words="Makes one program of each kind of block. The first picture waits for the compiler, up to minutes; the "
        "later ones are drawn quicker. The picture stays the same but for rounding.",
    ),
    Switch(
        id="channels_last", title="Channels last", denoisers=frozenset({"unet"}), excludes=("packed",),
        words="Lays the numbers of convolutions as graphics cards like them. The picture stays the same but for "
        "rounding.",
    ),
    Switch(
        id="fused_qkv", title="Fused attention inputs", denoisers=_ALL,
        excludes=("lora", "ip_adapter", "packed"),
        words="Asks for query, key and value at once. A small gain, mostly on small pictures. The picture stays the "
        "same but for rounding.",
    ),
)  # fmt: skip

_CACHES = {row.id: row for row in STEP_CACHES}
CACHE_NAMES = tuple(_CACHES)

# What a switch cannot work with -> how a sentence says it, after 'does not work with'.
EXCLUDED = {
    "lora": "a LoRA: its change of query, key and value would be lost without a word",
    "control": "a ControlNet, which has its say in the blocks that are left out",
    "ip_adapter": "an IP-Adapter, which has attention of its own",
    "packed": "weights of less than 16 bits, which have layers of their own",
    "fp8": "weights in fp8, which are widened layer by layer",
}


def cache_of(name: str) -> StepCache | None:
    """The row of this id; None for the empty one, which is no cache, and for unknown ones."""
    return _CACHES.get(name)


def cache_limit(request: GenerationRequest) -> float:
    """What the request says, or its cache's own; 0 without one."""
    row, own = cache_of(request.speed.step_cache), request.speed.cache_limit
    if own is not None:
        return own
    return row.limit if row else 0.0


def offered(family: Family) -> tuple[Switch, ...]:
    """The switches that do something for this family."""
    return tuple(row for row in SWITCHES if family.denoiser in row.denoisers)


def wanted(request: GenerationRequest, row: Switch) -> bool:
    return bool(getattr(request.speed, row.id))


def hindrances(request: GenerationRequest, record: ModelRecord | None) -> frozenset[str]:
    """The ids of `EXCLUDED` that this request has."""
    found = {
        "lora": any(lora.weight for lora in request.loras),
        "control": bool(request.controls),
        "ip_adapter": bool(request.ip_adapters),
        "packed": record is not None and bits_now(request, record) < 16,
        "fp8": _FP8.is_kind(record.dtype) if record and not request.weights else request.weights == _FP8.id,
    }
    return frozenset(name for name, there in found.items() if there)


def way(request: GenerationRequest) -> list[str]:
    """Words for what makes a step quicker, by which pictures are told apart whose time is compared."""
    speed = request.speed
    cache = [f"{speed.step_cache}={cache_limit(request):g}"] if speed.step_cache else []
    return cache + [row.id for row in SWITCHES if row.id != "step_cache" and wanted(request, row)]
