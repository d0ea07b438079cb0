"""The model folders of other programs: whose a folder is, and where in it the models lie. Nothing is moved or written.

The scan reads those places instead of the whole tree, so that neither the programs' own files nor their pictures are
searched through, and each place counts its depth anew.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.library.tree_settings import invoke_folders, swarm_roots
from pipelines.spec.errors import ModelError
from pipelines.spec.record import Kind

EXTRA_PATHS = ("extra_model_paths.yaml", "extra_models_config.yaml")  # the second is ComfyUI Desktop's
MAX_PACKAGES = 50
_LOG = logging.getLogger(__name__)

# What folders are called by these programs, without case and signs; a model is known by its tensors, not by this.
KINDS = {
    "checkpoints": Kind.CHECKPOINT,
    "stablediffusion": Kind.CHECKPOINT,
    "diffusers": Kind.CHECKPOINT,
    "loras": Kind.LORA,
    "lora": Kind.LORA,
    "lycoris": Kind.LORA,
    "vae": Kind.VAE,
    "vaeapprox": Kind.TINY_VAE,
    "approxvae": Kind.TINY_VAE,
    "embeddings": Kind.EMBEDDING,
    "textualinversion": Kind.EMBEDDING,
    "controlnet": Kind.CONTROLNET,
    "control": Kind.CONTROLNET,
    "t2iadapter": Kind.T2I_ADAPTER,
    "diffusionmodels": Kind.TRANSFORMER,
    "unet": Kind.TRANSFORMER,
    "textencoders": Kind.TEXT_ENCODER,
    "textencoder": Kind.TEXT_ENCODER,
    "clip": Kind.TEXT_ENCODER,
    "clipvision": Kind.IMAGE_ENCODER,
    "ipadapter": Kind.IP_ADAPTER,
    "upscalemodels": Kind.UPSCALER,
    "esrgan": Kind.UPSCALER,
    "realesrgan": Kind.UPSCALER,
    "swinir": Kind.UPSCALER,
    "dat": Kind.UPSCALER,
}


@dataclass(frozen=True, slots=True)
class Place:
    """A folder for models; `kind` is what its name says they are, None where it says nothing."""

    path: Path
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class Tree:
    """`tool` is the program's name; `problems` are sentences on files of its that could not be followed."""

    tool: str
    root: Path
    places: tuple[Place, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Tool:
    """A root is its when all of one group of `marks` are there; models lie in `tops`. `inner`: the folder in its
    download that is the root proper."""

    name: str
    marks: tuple[tuple[str, ...], ...]
    tops: tuple[str, ...]
    inner: str = ""


# The more particular first: SD.Next and Forge grew out of A1111 and have its folders too. The last rows are for trees
# of which little more than the models is left.
_TOOLS = (
    _Tool(
        "Stability Matrix",
        (("Models", "Packages"), ("Models/StableDiffusion",), ("Models/TextualInversion",)),
        ("Models",),
        inner="Data",
    ),
    _Tool("InvokeAI", (("invokeai.yaml",), ("databases/invokeai.db",)), ("models",)),
    _Tool(
        "SwarmUI",
        (("Models", "src/SwarmUI.csproj"), ("Models", "SwarmUI.sln"), ("Models", "Data/Settings.fds")),
        ("Models",),
    ),
    _Tool("SD.Next", (("models", "installer.py", "webui.py"),), ("models", "embeddings")),
    _Tool(
        "Forge",
        (("models", "modules_forge"), ("models", "webui.py", "backend")),
        ("models", "embeddings"),
        inner="webui",
    ),
    _Tool(
        "A1111",
        (
            ("models", "webui.py"),
            ("models/Stable-diffusion", "embeddings"),
            ("models/Stable-diffusion", "models/Lora"),
        ),
        ("models", "embeddings", "extensions/sd-webui-controlnet/models"),
        inner="webui",
    ),
    _Tool(
        "ComfyUI",
        (
            ("models", "comfy"),
            ("models", "custom_nodes"),
            ("models", "extra_model_paths.yaml"),
            ("models", "extra_models_config.yaml"),
            ("models/checkpoints", "main.py"),
            ("models/checkpoints", "output"),
            ("models/checkpoints", "models/loras"),
        ),
        ("models",),
        inner="ComfyUI",
    ),
    _Tool("Stability Matrix", (("Data/Models",),), ("Data/Models",)),
    _Tool("SwarmUI", (("Models/Stable-Diffusion",),), ("Models",)),
)


def expanded(roots: Iterable[Path]) -> tuple[Path, ...]:
    """The folders to scan for these roots: of another program's tree its places, of any other folder itself."""
    folders: list[Path] = []
    for root in roots:
        tree = tree_of(root)
        folders += [place.path for place in tree.places] if tree else [root]
        for problem in tree.problems if tree else ():
            _LOG.warning("%s: %s", root, problem)
    return tuple(dict.fromkeys(folders))


def tree_of(root: Path) -> Tree | None:
    """None for a folder that no program here known laid out. Never raises for a bad tree."""
    root = Path(os.path.abspath(root))
    try:
        return _tree_of(root)
    except (OSError, ValueError) as error:  # what is locked, or a name that no system takes
        _LOG.warning("%s cannot be looked through as a program's folder (%s)", root, error)
        return None


def _tree_of(root: Path) -> Tree | None:
    tool, home = _owner(root)
    if tool is None:
        return None
    problems: list[str] = []
    places = [place for top in _tops(tool, home, problems) for place in _places(top)]
    if tool.name == "Stability Matrix":
        places += _of_packages(home, problems)
    if tool.name == "ComfyUI":
        named = _named(home, problems)
        places = [*named, *places]
    if tool.name in _ELSEWHERE:
        places += _elsewhere(tool.name, home, problems)
    unique = {place.path: place for place in reversed(places)}
    return Tree(tool.name, root, tuple(reversed(unique.values())), tuple(problems))


def _owner(root: Path) -> tuple[_Tool | None, Path]:
    """With the folder that is the root proper, as one may point at what was unpacked."""
    for tool in _TOOLS:
        for home in (root, root / tool.inner) if tool.inner else (root,):
            if any(all(os.path.exists(home / mark) for mark in marks) for marks in tool.marks):
                return tool, home
    return None, root


def _tops(tool: _Tool, home: Path, problems: list[str]) -> Iterator[Path]:
    tops = [home / top for top in tool.tops]
    if tool.name == "InvokeAI" and os.path.isfile(home / "invokeai.yaml"):
        from pipelines.library.extra_paths import read_yaml  # YAML is seldom needed, and not at the start

        try:
            told = read_yaml(home / "invokeai.yaml").get("models_dir")
            if isinstance(told, str) and told.strip():
                tops = [home / os.path.expanduser(told.strip())]
        except ModelError as error:
            problems.append(str(error))
    yield from (top for top in tops if os.path.isdir(top) and not is_drive(top))


# What else a program's settings name: the file, and who reads it.
_ELSEWHERE: dict[str, tuple[str, Callable[[Path, Path], Iterator[Path]]]] = {
    "SwarmUI": ("Data/Settings.fds", swarm_roots),
    "InvokeAI": ("databases/invokeai.db", lambda database, _home: invoke_folders(database)),
}


def _elsewhere(tool: str, home: Path, problems: list[str]) -> list[Place]:
    """Folders that are there, each with what its own folders are called."""
    name, read = _ELSEWHERE[tool]
    if not (home / name).is_file():
        return []
    try:
        found = [
            folder for folder in read(home / name, home) if os.path.isdir(folder) and not is_drive(folder)
        ]
    except ModelError as error:
        problems.append(str(error))
        return []
    return [place for folder in found for place in _places(Path(os.path.abspath(folder)))]


def is_drive(folder: Path) -> bool:
    """A whole drive would be searched through, whatever leads to it."""
    real = os.path.realpath(folder)
    return os.path.dirname(real) == real


def _places(top: Path) -> Iterator[Place]:
    """The folders whose names are known, then the whole: what lies elsewhere in it is found too."""
    if kind := _kind(top.name):
        yield Place(top, kind)
        return
    try:
        names = sorted(os.listdir(top))
    except OSError:
        return
    known = ((top / name, _kind(name)) for name in names)
    yield from (Place(path, kind) for path, kind in known if kind and os.path.isdir(path))
    yield Place(top)


def _kind(name: str) -> Kind | None:
    return KINDS.get("".join(c for c in name.lower() if c.isalnum()))


def _of_packages(home: Path, problems: list[str]) -> Iterator[Place]:
    """Stability Matrix keeps whole programs beside the models that they share; each may hold models of its own."""
    try:
        names = sorted(os.listdir(home / "Packages"))[:MAX_PACKAGES]
    except OSError:
        return
    for name in names:
        tree = tree_of(home / "Packages" / name)
        if tree is not None and tree.tool != "Stability Matrix":
            problems += tree.problems
            yield from tree.places


def _named(home: Path, problems: list[str]) -> Iterator[Place]:
    for name in EXTRA_PATHS:
        if (home / name).is_file():
            from pipelines.library.extra_paths import extra_folders

            try:
                yield from (Place(folder, _kind(word)) for word, folder in extra_folders(home / name))
            except ModelError as error:
                problems.append(str(error))
