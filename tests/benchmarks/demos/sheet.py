"""The README's sheet of what all demos draw: `python -m tests.benchmarks.demos.sheet [--out FILE.png]`.

One row a demo: its id and what it draws of the same prompts. What goes with a model is drawn with that model.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from assets.demo.recipes.captions import caption
from assets.demo.recipes.drawings import Drawing, render
from pipelines.library.folders import demo_root
from pipelines.library.models import scan
from pipelines.spec.request import ControlInput, GenerationRequest, LoraInput, Refiner
from tests.benchmarks.demos.engine import Records, draw, request_of

SHOWN = (
    Drawing(shape="circle", color="red", background="blue", size="large"),
    Drawing(shape="star", color="yellow", background="purple", column="left", row="top"),
    Drawing(kind="pair", shape="heart", color="red", background="white", other_shape="square",
            other_color="green", relation="above"),
    Drawing(kind="count", shape="triangle", color="orange", background="black", count=3),
    Drawing(kind="scene", thing="house", color="red", time="day"),
    Drawing(kind="scene", thing="boat", color="yellow", time="sunset"),
)  # fmt: skip
SIDE, LABEL, EDGE = 148, 150, 4
Change = Callable[[GenerationRequest, Drawing, int], GenerationRequest]


def _with_refiner(request: GenerationRequest, _drawing: Drawing, _seed: int) -> GenerationRequest:
    return replace(request, refiner=Refiner(model="demo-sdxl-refiner"))


def _with_lora(id: str) -> Change:
    return lambda request, _drawing, _seed: replace(request, loras=(LoraInput(model=id),))


def _controlled(id: str, folder: Path) -> Change:
    def change(request: GenerationRequest, drawing: Drawing, seed: int) -> GenerationRequest:
        path = folder / f"{id}-{seed}.png"
        render(drawing, seed + 50).save(path)
        return replace(request, controls=(ControlInput(model=id, path=str(path), preprocess="canny"),))

    return change


def lines(records: Records, folder: Path) -> Iterator[tuple[str, str, Change]]:
    """(label, the model that draws, what is added) of all that is there."""
    for id in ("demo-sd", "demo-sd-v", "demo-sdxl", "demo-flux"):
        if id in records:
            yield id, id, lambda request, _drawing, _seed: request
    if "demo-sdxl-refiner" in records:
        yield "demo-sdxl\n+ refiner", "demo-sdxl", _with_refiner
    for base in ("sd", "sdxl", "flux"):
        if f"demo-{base}-canny" in records:
            yield f"demo-{base}-canny", f"demo-{base}", _controlled(f"demo-{base}-canny", folder)
        for style in ("neon", "mosaic", "crayon"):
            if f"demo-{base}-{style}" in records:
                yield f"demo-{base}-{style}", f"demo-{base}", _with_lora(f"demo-{base}-{style}")


def sheet(records: Records, folder: Path) -> Image.Image:
    rows = []
    for label, model, change in lines(records, folder):
        # A drawing is asked for in the words of the captions, the same for all.
        asked = [
            change(request_of(records[model], caption(drawing, random.Random(i)), i), drawing, i)
            for i, drawing in enumerate(SHOWN)
        ]
        rows.append((label, list(draw(asked, records, folder))))
    made = Image.new(
        "RGB", (LABEL + len(SHOWN) * (SIDE + EDGE) + EDGE, len(rows) * (SIDE + EDGE) + EDGE), "#26282c"
    )
    pen, font = ImageDraw.Draw(made), ImageFont.load_default(15)
    for row, (label, pictures) in enumerate(rows):
        top = EDGE + row * (SIDE + EDGE)
        pen.text((10, top + SIDE / 2), label, "#e6e6e6", font, anchor="lm")
        for column, picture in enumerate(pictures):
            small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            made.paste(small, (LABEL + EDGE + column * (SIDE + EDGE), top))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("assets/screenshots/demos.png"))
    options = parser.parse_args()
    records = {record.id: record for record in scan([demo_root()])}
    with tempfile.TemporaryDirectory() as folder:
        sheet(records, Path(folder)).quantize(256).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
