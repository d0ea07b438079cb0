"""A placement in plain sentences, for the card before a run, the terminal and the notes of a picture."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.runtime.placement import Place, Placement, Reading, Rung, Stage

_NAMES = {
    "unet": "U-Net",
    "transformer": "transformer",
    "vae": "VAE",
    "text_encoder": "first text encoder",
    "text_encoder_2": "second text encoder",
}


def words(placement: Placement) -> str:
    """One line without a full stop."""
    return "; ".join(_clauses(placement))


def needed(placement: Placement) -> str:
    """For a placement that does not fit: what it takes at the least, and what is free."""
    _sizes, budget, *_ = placement.asked
    texts = []
    if placement.device and placement.peak_vram > budget.vram:
        texts.append(f"it takes {gb(placement.peak_vram)} of the card's memory, {gb(budget.vram)} are free")
    if placement.peak_ram > budget.ram:
        texts.append(f"it takes {gb(placement.peak_ram)} of RAM, {gb(budget.ram)} are free")
    if not texts and budget.limits:  # it looked as if it would fit
        (most,) = [max(budget.limits.values())]
        texts.append(f"it could not even get {gb(most)}")
    return " and ".join(texts)


def gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 10**8 else f"{size / 1e6:.0f} MB"


def part_name(name: str) -> str:
    """Of a part of a model, as one writes it: 'U-Net' for 'unet'."""
    return _NAMES.get(name, name)


def place_words(place: Place, placement: Placement) -> str:
    """Where one part lies, and when."""
    where = "on the card" if placement.device else "in RAM"
    if place.stage is Stage.ENCODE and placement.reading is not Reading.HERE:
        forgotten = ", then read from the disk again" if placement.from_file else ""
        return f"{_AWAY[placement.reading]}{forgotten}"
    if place.streamed:
        share = f"{_percent(place)} % stay {where} while it works, the rest streams through {gb(place.arena)}"
        return share if place.stays > place.size_bytes // 50 else f"streams through {gb(place.arena)}"
    return where if place.always else f"{where} {_TIMES[place.stage]}, then {_waits(place, placement)}"


_AWAY = {Reading.CARD: "on a device of its own", Reading.RAM: "in RAM, where the processor computes it"}
_TIMES = {
    Stage.ENCODE: "while a prompt is read",
    Stage.DENOISE: "while it draws",
    Stage.DECODE: "while the picture is decoded",
}


def _waits(place: Place, placement: Placement) -> str:
    forgotten = not placement.device or (placement.from_file and place.stage is Stage.ENCODE)
    return "read from the disk again" if forgotten else "in RAM"


def _clauses(placement: Placement) -> Iterator[str]:
    if not placement.fits:
        yield f"does not fit: {needed(placement)}"
        return
    where = "on the card" if placement.device else "in RAM"
    leave = (
        "text encoders are forgotten after encoding, and read from the disk for the next prompt"
        if placement.from_file
        else "text encoders to RAM after encoding"
    )
    if placement.reading is Reading.CARD:
        leave = f"text encoders stay on a device of their own, where they take {gb(placement.peak_encoders)}"
    elif placement.reading is Reading.RAM:
        again = ", and read from the disk for the next prompt" if placement.from_file else ""
        leave = f"text encoders are computed by the processor, in RAM{again}"
    match placement.rung:
        case Rung.RESIDENT if placement.reading is not Reading.HERE:
            yield leave
            yield f"the rest stays {where}"
        case Rung.RESIDENT:
            yield f"everything stays {where}"
        case Rung.ENCODERS_LEAVE:
            yield leave
            yield f"the rest stays {where}"
        case Rung.STAGES:
            yield leave
            yield f"the {_denoisers(placement)} and the VAE take turns {where}"
        case _:
            yield leave
            yield from _streams(placement)
    if any(place.streamed for place in placement.parts if place.stage is Stage.ENCODE):
        yield "the text encoder streams while it reads the prompt"
    if placement.afresh:
        yield "LoRAs are computed in each step, as there is no room for the changed weights"
    if placement.tile:
        yield f"the picture is decoded in tiles of {placement.tile} pixels"


def _denoisers(placement: Placement) -> str:
    names = [_NAMES.get(p.name, p.name) for p in placement.parts if p.stage is Stage.DENOISE]
    return names[0] if len(names) == 1 else f"{names[0]}s"


def _streams(placement: Placement) -> Iterator[str]:
    denoisers = [place for place in placement.parts if place.stage is Stage.DENOISE]
    for place in denoisers:
        name = f"the {_NAMES.get(place.name, place.name)}"
        name += f" of {place.model}" if place.model and len(denoisers) > 1 else ""
        if not place.streamed:
            yield f"{name} stays on the card while it draws"
        elif place.stays <= place.size_bytes // 50:
            yield f"all of {name} streams"
        else:
            yield f"{_percent(place)} % of {name} stays on the card, the rest streams"


def _percent(place: Place) -> int:
    return round(100 * place.stays / place.size_bytes)
