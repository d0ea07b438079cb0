"""`ChosenAttention`: the kernel that `EngineOptions.attention` asks for, found for a model and applied while it draws.

U-Nets, ControlNets, IP-Adapters and FLUX, as diffusers 0.42 has them, all ask torch.nn.functional for each attention
and look the function up at every call. While a picture is drawn another one stands there. diffusers' own ways do less:
`set_attention_backend` does nothing to a U-Net and leaves its choice behind for the whole process, and its processors
for xformers take the place of those that an IP-Adapter has put in.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional

from pipelines.library.attention import keep, tried_at
from pipelines.runtime.attention.kernels import BY_ID, KERNELS, OWN, Kernel, is_refusal
from pipelines.runtime.attention.trial import NO_MEMORY, shape_on, tried
from pipelines.runtime.attention.widths import tokens_by_width
from pipelines.spec.attention import ATTENTION, AUTO, DETERMINISTIC, NAMES, Shape, Tried, attention_of, choice
from pipelines.spec.errors import EngineError
from pipelines.spec.machine import Option
from pipelines.spec.options import EngineOptions

log = logging.getLogger(__name__)

_FEW = 64  # keys below which nothing is to be won
Head = tuple[int, torch.dtype]  # the width of a head, and its precision
_WHAT_ELSE = f"Choose another attention, '{AUTO}' for the quickest that can."
_NOT_REPEATING = "Switch off that pictures repeat to the bit."


class ChosenAttention:
    """Raises EngineError for a kernel that there is not, or that is not deterministic where that is asked for."""

    def __init__(self, device: torch.device, options: EngineOptions) -> None:
        self._device = device
        self._file = Path(options.attention_file) if options.attention_file else None
        self._tried: dict[Shape, tuple[Tried, ...]] = {}
        self._repeats = options.deterministic
        self.wanted = _wanted(options)

    @property
    def forced(self) -> bool:
        """Whether a person has asked for a kernel, so that no other may run in its place."""
        return self.wanted != AUTO

    def options(self) -> tuple[Option, ...]:
        """All that can be asked for; what the device does not have says why. Nothing is run for it."""
        lacks = {kernel.id: kernel.lacks(self._device) for kernel in KERNELS}
        lacks[DETERMINISTIC] = (
            "" if any(not why and attention_of(name).repeats for name, why in lacks.items()) else
            "no kernel of this device is known to give the same bits twice"
        )  # fmt: skip
        return tuple(Option(id=row.id, title=row.title, why=lacks.get(row.id, "")) for row in ATTENTION)

    def options_for(
        self, networks: Iterable[torch.nn.Module], dtype: torch.dtype, cells: int
    ) -> tuple[Option, ...]:
        """As `options`, where what cannot take the heads of these networks says so too. `cells` as in `kernels`."""
        off = dict[str, str]()
        for width, tokens in _heads(networks, cells):
            tried = self.tried(dtype, width, tokens)
            for each in (*tried, choice(DETERMINISTIC, tried)):
                if each.why and each.why != NO_MEMORY:
                    off.setdefault(each.id, each.why)
        return tuple(replace(row, why=row.why or off.get(row.id, "")) for row in self.options())

    def kernels(
        self, networks: Iterable[torch.nn.Module], dtype: torch.dtype, cells: int
    ) -> dict[Head, Kernel]:
        """By head, what is not torch's own choice, for pictures of so many `cells` of latents.

        Only the layers of the networks are looked at; they may be on the meta device. Raises EngineError.
        """
        found = dict[Head, Kernel]()
        for width, tokens in _heads(networks, cells):
            taken = self.choice(dtype, width, tokens)
            if taken.id:
                found[width, dtype] = BY_ID[taken.id]
        return found

    def choice(self, dtype: torch.dtype, width: int, tokens: int) -> Tried:
        """Raises EngineError where what was asked for cannot be had."""
        found = choice(self.wanted, self.tried(dtype, width, tokens))
        if found.why:
            title = attention_of(self.wanted).title
            text = f"The attention '{title}' cannot be used here: {found.why}."
            raise EngineError(text, _NOT_REPEATING if self._repeats else _WHAT_ELSE)
        return found

    def tried(self, dtype: torch.dtype, width: int, tokens: int) -> tuple[Tried, ...]:
        """From memory, from the file of earlier starts, or by a trial now."""
        shape = shape_on(self._device, dtype, width, tokens)
        if shape not in self._tried:
            self._tried[shape] = self._kept(shape) or self._new(dtype, shape)
        return self._tried[shape]

    def _new(self, dtype: torch.dtype, shape: Shape) -> tuple[Tried, ...]:
        found = tried(self._device, dtype, shape)
        log.info("attention at %s: %s", shape, ", ".join(_line(each) for each in found))
        if self._file is not None and all(each.why != NO_MEMORY for each in found):
            try:
                keep(self._file, shape, found)
            except EngineError as error:
                log.warning("%s", error)
        return found

    def _kept(self, shape: Shape) -> tuple[Tried, ...]:
        """Nothing where it is of another version of the table, or a package can't be loaded any more that could."""
        if self._file is None:
            return ()
        try:
            found = tried_at(self._file, shape)
        except EngineError as error:
            log.warning("%s", error)
            return ()
        by_id = {each.id: each for each in found}
        if by_id.keys() != {"", *BY_ID}:
            return ()
        broken = any(kernel.lacks(self._device) and not by_id[kernel.id].why for kernel in BY_ID.values())
        return () if broken else found


def _heads(networks: Iterable[torch.nn.Module], cells: int) -> Iterator[tuple[int, int]]:
    """The widths of heads, with the most tokens that each attends to."""
    for network in networks:
        for width, shrunk in tokens_by_width(network).items():
            yield width, max(1, cells // shrunk)


def _wanted(options: EngineOptions) -> str:
    wanted = options.attention
    if wanted not in NAMES:
        raise EngineError(f"There is no attention '{wanted}'.", f"Known: {', '.join(NAMES)}.")
    if not options.deterministic:
        return wanted
    if wanted in (AUTO, DETERMINISTIC):
        return DETERMINISTIC
    if not attention_of(wanted).repeats:
        text = f"The attention '{attention_of(wanted).title}' is not known to give the same bits twice."
        raise EngineError(text, f"Choose '{DETERMINISTIC}', or switch off that pictures repeat to the bit.")
    return wanted


def _line(each: Tried) -> str:
    return f"{each.id or 'own'} {each.why or f'{each.ms:.3g} ms'}"


@contextmanager
def applied(kernels: Mapping[Head, Kernel], strict: bool) -> Iterator[None]:
    """Attention of these heads goes through these kernels, all other through torch's own choice.

    `strict`: all other goes through the first of them, and what a kernel cannot take is an EngineError. Afterwards
    torch's own function is back, whatever another engine, that was stopped in the middle, has left there.
    """
    if not kernels:
        yield
        return
    other = next(iter(kernels.values())) if strict else None

    def attend(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> torch.Tensor:  # fmt: skip
        kernel = kernels.get((query.shape[-1], query.dtype), other)
        plain = attn_mask is None and not dropout_p and not is_causal and not enable_gqa
        if kernel is not None and plain and (strict or key.shape[-2] >= _FEW):
            return _run(kernel, query, key, value, scale)
        if kernel is not None and strict:
            raise EngineError(f"The attention '{kernel.id}' cannot be masked.", _WHAT_ELSE)
        return OWN(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)

    functional.scaled_dot_product_attention = attend
    try:
        yield
    finally:
        if functional.scaled_dot_product_attention is attend:
            functional.scaled_dot_product_attention = OWN


def _run(
    kernel: Kernel, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
) -> torch.Tensor:
    try:
        return kernel.run(query, key, value, scale)
    except RuntimeError as error:
        if not is_refusal(error):
            raise
        shape = f"{query.shape[-2]} tokens against {key.shape[-2]}, heads of {query.shape[-1]} numbers"
        raise EngineError(f"The attention '{kernel.id}' cannot take {shape}.", _WHAT_ELSE) from error
