"""What a `LoadProgress` says to a person, in the window and in the terminal."""

from __future__ import annotations

from pipelines.spec.downloads import duration_text, size_text
from pipelines.spec.events import LoadProgress

_PARTS = {
    "unet": "U-Net",
    "transformer": "transformer",
    "vae": "VAE",
    "text_encoder": "text encoder",
    "text_encoder_2": "second text encoder",
    "image_encoder": "image encoder",
}


def load_text(event: LoadProgress) -> str:
    """Such as 'Loading U-Net: 1.2 of 4.3 GB, 850 MB/s, 4 s left'. A network by itself has its folder's name."""
    done, total = size_text(event.done).split(), size_text(event.total).split()
    amount = (
        f"{done[0]} of {' '.join(total)}" if done[1] == total[1] else f"{' '.join(done)} of {' '.join(total)}"
    )
    text = f"Loading {_PARTS.get(event.part, event.part) or 'the model'}: {amount}"
    if event.bytes_per_s > 0:
        text += f", {size_text(event.bytes_per_s)}/s"
    left = event.eta_s is not None and event.done < event.total
    return f"{text}, {duration_text(event.eta_s)} left" if left and event.eta_s is not None else text
