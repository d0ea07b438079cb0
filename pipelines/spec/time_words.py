"""The time of a picture in words."""

from __future__ import annotations

from pipelines.spec.run_time import TimeEstimate


def time_words(time: TimeEstimate | None) -> str:
    """Such as 'about 12 s a picture (± 2 s)'."""
    if time is None:
        return "time not known yet"
    spread = f" (± {seconds_text(time.spread_s)})" if time.spread_s is not None else ""
    return f"about {seconds_text(time.seconds)} a picture{spread}"


def grounds(time: TimeEstimate | None) -> str:
    """What the time is told from, and how right the last one was."""
    if time is None:
        return "The time is told once a picture of this kind was drawn on this device."
    text = f"From {time.pictures} earlier picture{'s' if time.pictures > 1 else ''} on {time.device}."
    if time.last_s:
        was, said = seconds_text(time.last_s), seconds_text(time.last_predicted_s)
        text += f" The last one took {was}, {said} were predicted."
    return text


def seconds_text(seconds: float) -> str:
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
