"""A library as people have it after two years: thousands of small true headers, with holes for the weights."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import library_files

_FIRST = (
    "Amber Arctic Ashen Autumn Baroque Bold Brushed Candle Cedar Chalk Charcoal Cinder Clay Cobalt Copper "
    "Coral Crayon Crystal Dawn Desert Dusk Ember Etched Fern Foggy Forest Frosted Garden Gilded Glass Gouache "
    "Granite Harbour Hazel Indigo Inked Ivory Jade Lantern Lilac Linen Linocut Lunar Maple Marble Meadow "
    "Midnight Mossy Neon Nordic Oaken Ochre Opal Paper Pastel Pearl Pine Plum Polar Quiet Rainy Retro River "
    "Rosewood Rustic Sable Saffron Sandstone Silver Slate Solar Spring Stained Stormy Sunlit Tidal Timber "
    "Twilight Umber Velvet Violet Walnut Watercolour Willow Winter Woven "
)
_LAST = (
    "Animals Architecture Boats Botanicals Bridges Castles Ceramics Characters Cities Clouds Comics Costumes "
    "Creatures Dioramas Dragons Faces Fashion Flowers Food Furniture Gardens Grain Hands Horizons Icons "
    "Insects Interiors Islands Jewellery Landscapes Lighting Line Logos Machines Maps Masks Miniatures "
    "Mountains Murals Mushrooms Nightscapes Oceans Ornaments Patterns Portraits Posters Ruins Scenes Seasons "
    "Ships Skies Sketches Spaceships Stickers Stilllife Streets Style Textures Tiles Toys Trains Trees "
    "Vehicles Villages Vistas Waterfalls Weather Woodcuts "
)
_FOLDERS = (
    "styles",
    "characters",
    "places",
    "concepts",
    "lighting",
    "mixed",
    "old",
    "new",
    "friends",
    "tests",
)
_WORDS = {"SD 1.5": "_sd1", "XL": "_sdxl", "Flux": "_flux"}


def write_models(root: Path, count: int, seed: int = 7) -> None:
    """LoRAs of three families for the most part; in each hundred some embeddings, pickles and cut-off downloads."""
    draw = random.Random(seed)
    layers = {word: tuple(getattr(library_files, name)())[-40:] for word, name in _WORDS.items()}
    for number in range(count):
        word = draw.choices(tuple(layers), (4, 5, 3))[0]
        title = f"{draw.choice(_FIRST.split())} {draw.choice(_LAST.split())} {word}"
        stem = f"{title.lower().replace(' ', '_').replace('.', '')}_v{draw.randrange(1, 9)}-{number:05d}"
        folder = root / "loras" / draw.choice(_FOLDERS)
        part = number % 100
        if part in (3, 41, 77):
            _embedding(root / "embeddings" / f"{stem}.safetensors")
        elif part in (11, 58):
            _pickle(folder / f"{stem}.pt")
        else:
            _lora(folder / f"{stem}.safetensors", title, layers[word], draw, whole=part not in (9, 66))


def _lora(
    path: Path, title: str, layers: Sequence[library_files.Layer], draw: random.Random, whole: bool
) -> None:
    rank, kind, end = draw.choice((4, 8, 16, 32, 64, 128)), draw.choice(("F16", "F16", "BF16", "F32")), 0
    table: dict[str, object] = {"__metadata__": _told(title, rank)}
    for layer, out, into in layers:
        for name, shape in (("lora_down.weight", [rank, into]), ("lora_up.weight", [out, rank])):
            begin, end = end, end + (4 if kind == "F32" else 2) * shape[0] * shape[1]
            table[f"{layer}.{name}"] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    _write(path, table, end if whole else end // 2)


def _told(title: str, rank: int) -> dict[str, str]:
    return {
        "modelspec.title": title,
        "modelspec.trigger_phrase": title.lower().rsplit(" ", 1)[0].replace(" ", "-"),
        "modelspec.description": f"Draws {title.split()[1].lower()} as if they were {title.split()[0].lower()}.",
        "ss_network_dim": str(rank),
    }


def _embedding(path: Path) -> None:
    _write(path, {"emb_params": {"dtype": "F32", "shape": [4, 768], "data_offsets": [0, 12288]}}, 12288)


def _pickle(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"PK\x03\x04" + bytes(2000))


def _write(path: Path, table: dict[str, object], size: int) -> None:
    text = json.dumps(table, separators=(",", ":")).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + size)
