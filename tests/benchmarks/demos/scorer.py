"""The scorer: does it find a picture's caption among ten, with pictures and captions that it never saw?"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from assets.demo.recipes.captions import caption, held_out
from assets.demo.recipes.latents import drawing_number, sheet_number
from assets.demo.recipes.small import UNSEEN
from tests.benchmarks.demos.row import Row, not_trained, share

DEMO, TOPIC, TARGET = "demo-scorer", "right caption first of 10", 0.90
CHOICES, COUNT = 10, 500


def pairs(count: int) -> tuple[list[Image.Image], list[str]]:
    """Unseen drawings and a held-out wording of each; no two captions are alike."""
    rng = random.Random(7)
    sheets, texts = [], []
    for index in range(UNSEEN, UNSEEN + count):
        text = next(text for text in iter(lambda n=index: caption(drawing_number(n), rng), None)
                    if held_out(text) and text not in texts)  # fmt: skip
        sheets.append(sheet_number(index))
        texts.append(text)
    return sheets, texts


@torch.inference_mode()
def first(
    model: CLIPModel, processor: CLIPProcessor, sheets: list[Image.Image], texts: list[str]
) -> list[bool]:
    """Whether each picture's own caption scores highest among it and nine others of the list."""
    given = processor(text=texts, images=sheets, return_tensors="pt", padding=True, truncation=True)  # pyright: ignore[reportCallIssue]
    scores = model(input_ids=given["input_ids"], pixel_values=given["pixel_values"]).logits_per_image.numpy()
    rng = np.random.default_rng(11)
    right = []
    for own in range(len(texts)):
        others = rng.choice(np.delete(np.arange(len(texts)), own), CHOICES - 1, replace=False)
        right.append(bool(scores[own, own] > scores[own, others].max()))
    return right


def rows(root: Path) -> list[Row]:
    """`root` holds the demos' folders."""
    folder = root / "scorer"
    if not (folder / "config.json").exists():
        return [not_trained(DEMO, TOPIC, TARGET)]
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    right = first(model, CLIPProcessor.from_pretrained(folder), *pairs(COUNT))
    return [share(DEMO, TOPIC, right, TARGET)]
