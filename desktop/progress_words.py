"""The words for how far a picture is."""

from __future__ import annotations

from pipelines.spec.events import Stage, StepDone

STAGE_TEXTS = {
    Stage.LOAD: "Loading the model",
    Stage.ENCODE: "Reading the prompt",
    Stage.DENOISE: "Drawing",
    Stage.DECODE: "Finishing",
    Stage.SAVE: "Saving",
}


def step_text(event: StepDone) -> str:
    """Such as 'Step 7 of 20 · 3 s left', with the picture's number when there are several."""
    text = f"Step {event.step} of {event.steps}"
    if event.images > 1:
        text = f"Picture {event.image + 1} of {event.images} · {text}"
    return text if event.eta_s is None else f"{text} · {duration(event.eta_s)} left"


def duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 90 else f"{round(whole / 60)} min"
