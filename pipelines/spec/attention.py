"""The table of attention kernels: the ways to compute the attention of a denoiser, and what a trial of one found."""

from __future__ import annotations

from dataclasses import dataclass

AUTO, DETERMINISTIC = "auto", "deterministic"
GAIN = (
    0.9  # of the time of torch's own choice; closer calls would let chance decide the last bits of a picture
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """`id` as in `EngineOptions.attention`; `words` tell a person what it does to the picture and to speed.

    `alone`: it is only used by who asks for it, as pictures differ. `repeats`: nothing in it adds up in an order that
    differs from run to run.
    """

    id: str
    title: str
    words: str
    alone: bool = False
    repeats: bool = False


ATTENTION = (
    Attention(
        id=AUTO, title="Automatic",
        words="Each kernel of this device is tried once at the head size of the model. The quickest is used where it "
        "answers right and takes at least a tenth less time than the one torch takes by itself.",
    ),
    Attention(
        id="flash", title="Flash", repeats=True,
        words="Computes in tiles, without a table of all tokens against all: quick, and little memory. "
        "(Dao 2023, FlashAttention-2)",
    ),
    Attention(
        id="efficient", title="Memory-efficient", repeats=True,
        words="In tiles as well, on older cards too, where Flash cannot run. (Rabe and Staats 2021)",
    ),
    Attention(
        id="cudnn", title="cuDNN",
        words="NVIDIA's own kernel: often the quickest on cards of 2022 and later.",
    ),
    Attention(
        id="math", title="Math", repeats=True,
        words="Written out, with the whole table of tokens against tokens: the slowest, and the most memory. What the "
        "others are measured against.",
    ),
    Attention(
        id="xformers", title="xFormers",
        words="The kernels of the xformers package, where it is installed and fits this torch.",
    ),
    Attention(
        id="sage", title="SageAttention", alone=True,
        words="Queries and keys are rounded to 8 bits: quicker on cards of 2022 and later, and pictures differ in "
        "details. Automatic never takes it. Where the sageattention package is installed. (Zhang et al. 2024)",
    ),
    Attention(
        id=DETERMINISTIC, title="Deterministic",
        words="The first of Flash, Memory-efficient and Math that gives the same bits twice on this device: the same "
        "request makes the same picture again, to the bit.",
    ),
)  # fmt: skip
_BY_ID = {row.id: row for row in ATTENTION}
NAMES = tuple(_BY_ID)


def attention_of(name: str) -> Attention:
    """The row of this id, which must be one of `NAMES`."""
    return _BY_ID[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """At what a kernel is tried: heads of `width` numbers, `tokens` of them, on a device, in a precision ('float16').

    `versions` are those of all that can change the answer: driver, torch, packages.
    """

    device: str
    versions: str
    dtype: str
    width: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What a trial found of a kernel; an empty `id` is torch's own choice. `ms` is the median of its runs.

    `why` says why it cannot be used, and is empty where it can. `repeats`: it gave the same bits twice. `own`: it gave
    the bits of torch's own choice, so that it is the very kernel that torch takes by itself.
    """

    id: str
    ms: float = 0.0
    why: str = ""
    repeats: bool = True
    own: bool = False


def choice(wanted: str, tried: tuple[Tried, ...]) -> Tried:
    """Which of them is to be used; the one with an empty id is torch's own choice.

    One that was asked for is answered also when it cannot be used: its `why` says so.
    """
    by_id = {each.id: each for each in tried}
    if wanted == AUTO:
        own = by_id[""]
        able = [t for t in tried if t.id and not (t.why or t.own or attention_of(t.id).alone)]
        best = min(able, key=lambda t: t.ms, default=own)
        return best if best.ms < GAIN * own.ms else own
    if wanted == DETERMINISTIC:
        able = [t for t in tried if t.id and not t.why and t.repeats and attention_of(t.id).repeats]
        order = {row.id: at for at, row in enumerate(ATTENTION)}
        nothing = Tried(id=DETERMINISTIC, why="no kernel here is known to give the same bits twice")
        # Never by its time: another start would choose another one.
        return min(able, key=lambda t: order[t.id], default=nothing)
    return by_id[wanted]
