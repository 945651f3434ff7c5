"""What a model directory says about itself: its modules, the routes of a Router, the settings of its Transformer.

Reads JSON; nothing is executed, and torch is not needed.
"""

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, ModelError
from pipeline.model.lock import ModuleLock

ALLOWED = frozenset({"Transformer", "Pooling", "Dense", "Normalize", "LayerNorm", "Dropout", "Router"})
"""Modules whose code is sentence-transformers' own and whose vectors this program reproduces."""

SHOWN = 60  # characters of a file's text in a message

TRANSFORMER_SETTINGS = tuple(
    f"sentence_{kind}_config.json" for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)  # fmt: skip
"""Where a Transformer module keeps its settings: the first of these that says anything, as sentence-transformers looks."""


def read_modules(directory: Path) -> tuple[ModuleLock, ...]:
    """The modules of `modules.json`. Raises ModelError when it is missing, or lists what isn't allowed."""
    listing = read_json(directory / "modules.json")
    if not isinstance(listing, list) or not listing or not all(isinstance(module, dict) for module in listing):
        raise ModelError(f"{directory}/modules.json lists no modules; this is not a sentence-transformers model")
    return tuple(_module(directory, str(module.get("path", "")), str(module.get("type"))) for module in listing)


def read_routes(directory: Path, modules: Sequence[ModuleLock]) -> dict[str | None, tuple[ModuleLock, ...]]:
    """The modules a text passes, for each route of the Router; without one there is one route, called None.

    Paths are below the model directory. A Router may stand at any place in the chain, but only once.
    """
    routers = [module for module in modules if module.type == "Router"]
    if not routers:
        return {None: tuple(modules)}
    place = modules.index(routers[0])
    routing = _routing(directory, routers[0])
    inner = {
        name: _module(directory, "/".join(part for part in (routers[0].path, name) if part), str(kind))
        for name, kind in routing["types"].items()
    }
    try:
        chains: dict[str | None, tuple[ModuleLock, ...]] = {
            str(route): (*modules[:place], *(inner[name] for name in names), *modules[place + 1 :])
            for route, names in routing["structure"].items()
        }
    except KeyError as error:
        raise ModelError(f"{directory}: the Router has a route with a module {error} of no type") from error
    if len(routers) > 1 or any(module.type == "Router" for module in inner.values()):
        raise ModelError(f"{directory}: a Router beside or inside another Router is not supported")
    if not chains or not all(chains.values()):
        raise ModelError(f"{directory}: the Router has no routes, or one without modules")
    return chains


def find_route(directory: Path, task: str | None) -> str | None:
    """The route that sentence-transformers takes for texts of this task; None when the model has no Router.

    Raises ConfigError for a task no route is meant for.
    """
    router = next((module for module in read_modules(directory) if module.type == "Router"), None)
    if router is None:
        return None
    routing = _routing(directory, router)
    routes, settings = routing["structure"], routing.get("parameters") or {}
    mappings = {_mapped(directory, key): route for key, route in (settings.get("route_mappings") or {}).items()}
    for key in ((task, "text"), (task, None), (None, "text"), (None, None)):
        if key in mappings:
            return str(mappings[key])
    for name in (task, "text"):
        if name in routes:
            return name
    if task is not None:
        raise ConfigError(f"model.task is {task!r}, but the model's routes are {', '.join(sorted(routes))}")
    default = settings.get("default_route")
    if default is None and settings.get("allow_empty_key", True):
        default = next(iter(routes))
    if default is None:
        raise ConfigError(f"the model has no default route; set model.task to one of {', '.join(sorted(routes))}")
    return str(default)


def find_backbone(directory: Path) -> Path:
    """The folder of the Transformer module, where its tokenizer lies too. All routes have the same tokenizer."""
    chain = next(iter(read_routes(directory, read_modules(directory)).values()))
    return directory / chain[0].path


def transformer_settings(backbone: Path) -> dict[str, Any]:
    """The settings of a Transformer module: length, case, modalities."""
    found = (read_object(backbone / name) for name in TRANSFORMER_SETTINGS)
    return next((settings for settings in found if settings), {})


def read_object(path: Path, *, required: bool = False) -> dict[str, Any]:
    """The JSON object in a file; {} when there is none. Raises ModelError for anything else."""
    value = read_json(path, None if required else {})
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object; this is not a sentence-transformers model")
    return value


def read_json(path: Path, default: Any = None) -> Any:
    """The JSON in a file, or the default when there is none. Raises ModelError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if default is not None:
            return default
        raise ModelError(f"{path} is missing; this is not a complete sentence-transformers model") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} can't be read as JSON: {error}") from error


def _module(directory: Path, path: str, dotted: str) -> ModuleLock:
    """A module by its short name. Old cards say `sentence_transformers.models.X`, new ones name other packages."""
    package, _, short = dotted.rpartition(".")
    if package.split(".")[0] != "sentence_transformers" or short not in ALLOWED:
        raise ModelError(
            f"{directory}: module {dotted!r} is not one this program can vouch for; allowed are "
            f"{', '.join(sorted(ALLOWED))} of sentence-transformers. Code that comes with a model is never run"
        )
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ModelError(f"{directory}: the module path {path!r} leads out of the model directory")
    return ModuleLock(path, short)


def _mapped(directory: Path, key: str) -> Any:
    """What sentence-transformers writes as the text of a tuple; nothing in it is run."""
    try:
        mapped = ast.literal_eval(key)
        hash(mapped)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ModelError(f"{directory}: the Router maps {key[:SHOWN]!r}, which is no (task, modality)") from error
    return mapped


def _routing(directory: Path, router: ModuleLock) -> Mapping[str, Any]:
    folder = directory / router.path
    routing = read_object(folder / "router_config.json") or read_object(folder / "config.json", required=True)
    if not isinstance(routing.get("types"), dict) or not isinstance(routing.get("structure"), dict):
        raise ModelError(f"{folder}/router_config.json names no routes")
    return routing
