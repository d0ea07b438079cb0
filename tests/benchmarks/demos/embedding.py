"""Textual inversion: do pictures of a prompt with the word, and no other hint, show its concept?"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from assets.demo.recipes.embedding import CONCEPT, TEMPLATES
from pipelines.spec.request import EmbeddingInput, GenerationRequest
from tests.benchmarks.demos.engine import Records, draw, request_of
from tests.benchmarks.demos.row import Row, not_trained, share
from tests.benchmarks.scoring import judge, read

SHOWN = "pictures show its concept"
TARGET, COUNT = 0.80, 50


def shows(picture: np.ndarray) -> bool:
    """Shape, colour, ground and place of the concept, all at once."""
    return all(judge(CONCEPT, read(picture)).values())


def asked(name: str, base: str, records: Records, count: int, seed: int = 0) -> list[GenerationRequest]:
    word = records[name].trigger_words[0]
    texts = [TEMPLATES[i % len(TEMPLATES)].format(word) for i in range(count)]
    given = (EmbeddingInput(model=name),)
    return [
        replace(request_of(records[base], text, seed + i), embeddings=given) for i, text in enumerate(texts)
    ]


def rows(name: str, base: str, records: Records, options: argparse.Namespace, out: Path) -> list[Row]:
    if name not in records or base not in records:
        return [not_trained(name, SHOWN, TARGET)]
    requests = asked(name, base, records, min(options.count, COUNT), options.seed)
    drawn = draw(requests, records, out, options.device)
    return [share(name, SHOWN, [shows(picture) for picture in drawn], TARGET)]
