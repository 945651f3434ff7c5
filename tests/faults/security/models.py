"""Model directories that try to run code, to read what is outside of them, or to be other than they were locked."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults.security.case import Case, World, refused
from support.models import edit_json

from pipeline.encode.encoder import load_model
from pipeline.model.code import ARGUMENTS
from pipeline.model.convert import convert_model
from pipeline.model.resolve import resolve_model, stage_model
from pipeline.text.tokens import Tokens

WEIGHTS = "model.safetensors"
PICKLES = ("pytorch_model.bin", "model.pt", "weights.pkl", "model.ckpt", "model.pth", "tf_model.h5", "flax_model.msgpack",
           "training_args.bin", "pytorch_model-00001-of-00001.bin")  # fmt: skip
MODULES = (
    "os.system", "posix.system", "evil.Evil", "evil", "Transformer", ".Transformer", "..evil.Transformer", "__main__.Transformer",
    "subprocess.Popen", "builtins.eval", "importlib.import_module", "torch.hub.load", "sentence_transformers.models.Evil",
    "SENTENCE_TRANSFORMERS.models.Transformer", "sentence_transformers.models.Transformer; import evil",
    "evil.models.Transformer",
    " sentence_transformers.models.Transformer", "sentence_transformers/models.Transformer",
    "sentence_transformers．models.Transformer",
    "sentence_transformers.models.WordEmbeddings", "sentence_transformers.models.CLIPModel",
    "sentence_transformers_evil.Transformer",
    "", None, 5, ["evil.Evil"], {"evil": "Evil"},
)  # fmt: skip
CODE: list[tuple[str, dict[str, Any]]] = [
    ("config.json", {"auto_map": {"AutoModel": "evil.EvilModel", "AutoConfig": "evil.Evil"}}),
    ("config.json", {"auto_map": {"AutoModel": "other/repository--evil.EvilModel"}}),
    ("config.json", {"text_config": {"auto_map": {"AutoModel": "evil.EvilModel"}}}),
    ("config.json", {"layers": [{"deep": {"auto_map": {"AutoModel": "evil.EvilModel"}}}]}),
    ("config.json", {"_attn_implementation_internal": "evil/kernel"}),
    ("config.json", {"text_config": {"_attn_implementation_internal": "evil/kernel"}}),
    ("config.json", {"_experts_implementation_internal": "evil/kernel"}),
    ("config.json", {"attn_implementation": "evil/kernel"}),
    ("config.json", {"_attn_implementation": "evil/kernel@main:forward"}),
    ("config.json", {"attn_implementation": {"": "sdpa", "text_config": "evil/kernel"}}),
    ("config.json", {"experts_implementation": "evil/kernel"}),
    ("config.json", {"custom_pipelines": {"feature-extraction": {"impl": "evil.Evil"}}}),
    ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}),
    ("tokenizer_config.json", {"auto_map": ["evil.Evil", None]}),
    ("processor_config.json", {"auto_map": {"AutoProcessor": "evil.Evil"}}),
    ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "evil.Evil"}}),
    ("1_Pooling/config.json", {"auto_map": {"AutoModel": "evil.EvilModel"}}),
    *(("sentence_bert_config.json", {name: {"trust_remote_code": True}}) for name in ARGUMENTS),
    ("sentence_bert_config.json", {"model_args": {"subfolder": "../elsewhere"}}),
    ("sentence_bert_config.json", {"model_kwargs": {"code_revision": "evil"}}),
    ("sentence_bert_config.json", {"model_kwargs": {"attn_implementation": "evil/kernel"}}),
    ("sentence_bert_config.json", {"config_kwargs": {"attn_implementation": {"": "evil/kernel"}}}),
    ("sentence_bert_config.json", {"model_args": {"gguf_file": "evil.gguf"}}),
    ("sentence_bert_config.json", {"model_args": {"adapter_kwargs": {"revision": "evil"}}}),
    ("sentence_bert_config.json", {"model_args": {"quantization_config": {"quant_method": "evil"}}}),
    ("sentence_bert_config.json", {"tokenizer_args": {"vocab_file": "/etc/passwd"}}),
    ("sentence_bert_config.json", {"processor_kwargs": {"cache_dir": "/etc"}}),
    ("sentence_roberta_config.json", {"model_args": {"trust_remote_code": True}}),
    ("adapter_config.json", {"base_model_name_or_path": "evil/model", "peft_type": "LORA"}),
    ("model.safetensors.index.json", {"weight_map": {"a": "../elsewhere/model.safetensors"}}),
    ("model.safetensors.index.json", {"weight_map": {"a": "/etc/model.safetensors"}}),
    ("config_sentence_transformers.json", {"model_type": "CrossEncoder"}),
]  # fmt: skip
HARMLESS: list[tuple[str, str]] = [
    *(
        (name, "code")
        for name in ("modeling_evil.py", "__init__.py", "sitecustomize.py", "1_Pooling/pooling.py", "torch.py")
    ),
    *((name, "pickle") for name in PICKLES),
    ("custom_generate/generate.py", "code"),
]
"""What may lie in a directory, and is never looked at."""
TEMPLATE = "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ cycler.__init__.__globals__.os.system('id') }}"


def _copy(world: World) -> Path:
    copy = world.folder / "model"
    shutil.copytree(world.model, copy)
    (copy / "evil.py").write_text(world.canary.code())
    return copy


def _load(directory: Path) -> None:
    """As a replica does, whatever comes of it: where the inspection had overlooked something, the libraries are the next wall."""
    with contextlib.suppress(Exception):
        Tokens(str(directory), 16)
    with contextlib.suppress(Exception):
        load_model(str(directory), "cpu")


def _refused(change: Callable[[Path, World], object]) -> Callable[[World], None]:
    def act(world: World) -> None:
        directory = _copy(world)
        change(directory, world)
        refused(lambda: resolve_model(str(directory), None, str(world.folder / "cache")), 2)
        _load(directory)

    return act


def _harmless(change: Callable[[Path, World], object]) -> Callable[[World], None]:
    def act(world: World) -> None:
        directory = _copy(world)
        change(directory, world)
        resolve_model(str(directory), None, str(world.folder / "cache"))
        Tokens(str(directory), 16)
        load_model(str(directory), "cpu")

    return act


def _loaded(change: Callable[[Path, World], object]) -> Callable[[World], None]:
    """Refused or not: what counts is the canary."""

    def act(world: World) -> None:
        directory = _copy(world)
        change(directory, world)
        _load(directory)

    return act


def _only_pickle(name: str) -> Callable[[Path, World], object]:
    def change(directory: Path, world: World) -> None:
        (directory / WEIGHTS).unlink()
        (directory / name).write_bytes(world.canary.pickled())
        if "-of-" in name:
            edit_json(directory / "pytorch_model.bin.index.json", weight_map={"a": name})

    return change


def _add_module(kind: str, name: str) -> Callable[[Path, World], object]:
    """One more module whose weights are a pickle."""

    def change(directory: Path, world: World) -> None:
        modules = json.loads((directory / "modules.json").read_text())
        modules.append(
            {"idx": len(modules), "name": "9", "path": "9_Evil", "type": f"sentence_transformers.models.{kind}"}
        )
        (directory / "modules.json").write_text(json.dumps(modules))
        (directory / "9_Evil").mkdir()
        edit_json(directory / "9_Evil" / "config.json", in_features=32, out_features=32, dimension=32, bias=True)
        (directory / "9_Evil" / name).write_bytes(world.canary.pickled())

    return change


def _activation(name: str) -> Callable[[Path, World], object]:
    """A Dense module that names a function of its own; its weights are fine."""

    def change(directory: Path, world: World) -> None:
        import torch
        from safetensors.torch import save_file

        _add_module("Dense", "ignored.bin")(directory, world)
        edit_json(directory / "9_Evil" / "config.json", activation_function=name, dimension=None)
        save_file({"linear.weight": torch.eye(32), "linear.bias": torch.zeros(32)}, directory / "9_Evil" / WEIGHTS)

    return change


def _edit_modules(**changes: Any) -> Callable[[Path, World], object]:
    def change(directory: Path, _: World) -> None:
        modules = json.loads((directory / "modules.json").read_text())
        modules[0] |= changes
        (directory / "modules.json").write_text(json.dumps(modules))

    return change


def _router(key: str) -> Callable[[World], None]:
    """A Router's mapping is text that Python has to understand."""

    def act(world: World) -> None:
        from pipeline.model.modules import find_route

        directory = _copy(world)
        _edit_modules(path="router", type="sentence_transformers.models.Router")(directory, world)
        (directory / "router").mkdir()
        settings = {"types": {"a": "sentence_transformers.models.Transformer"}, "structure": {"a": ["a"]}}
        mapped = key.replace("EXPRESSION", world.canary.expression())
        edit_json(directory / "router" / "router_config.json", **settings, parameters={"route_mappings": {mapped: "a"}})
        refused(lambda: find_route(directory, "query"), 2)

    return act


def _link(name: str, target: str, *, directory: bool = False) -> Callable[[Path, World], object]:
    def change(model: Path, world: World) -> None:
        outside = world.folder / "outside"
        shutil.copytree(world.model, outside)
        link = model / name
        if link.is_file():
            link.unlink()
        link.symlink_to(target.replace("OUTSIDE", str(outside)), target_is_directory=directory)

    return change


def _linked_folder(name: str, target: str) -> Callable[[Path, World], object]:
    """A folder of the model moved away, and a link in its place: what lies there is in no lock."""

    def change(model: Path, _: World) -> None:
        place = model / target
        shutil.move(model / name, place)
        edit_json(place / "config.json", auto_map={"AutoModel": "evil.EvilModel"})
        (model / name).symlink_to(place)

    return change


def _linked_blob(world: World) -> None:
    """The same in the layout of the hub's cache, whose links lead out of the snapshot."""
    snapshot = world.folder / "cache" / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    _copy(world).rename(snapshot)
    (snapshot.parent.parent / "blobs").mkdir()
    _linked_folder("1_Pooling", "../../blobs/pool")(snapshot, world)
    refused(lambda: resolve_model(str(snapshot), None, None), 2)
    _load(snapshot)


def _changed(change: Callable[[Path], object]) -> Callable[[World], None]:
    """Locked, then changed: a worker that stages it must notice."""

    def act(world: World) -> None:
        directory = _copy(world)
        locked = resolve_model(str(directory), None, None).lock
        change(directory)
        refused(lambda: stage_model(str(directory), None, None, locked), 2)

    return act


def _flip(name: str) -> Callable[[Path], object]:
    def change(directory: Path) -> None:
        data = bytearray((directory / name).read_bytes())
        data[-2] ^= 1
        (directory / name).write_bytes(data)

    return change


def _convert(*names: str) -> Callable[[World], None]:
    """`convert-model` is what the program itself recommends for pickles."""

    def act(world: World) -> None:
        directory = _copy(world)
        for name in names:
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_bytes(world.canary.pickled())
        (directory / WEIGHTS).unlink()
        refused(lambda: convert_model(str(directory), str(world.folder / "safe")), 2)
        assert not (world.folder / "safe").exists()

    return act


def _edited(name: str, changes: dict[str, Any]) -> Callable[[Path, World], object]:
    return lambda directory, _: edit_json(directory / name, **changes)


def _text(name: str, text: str) -> Callable[[Path, World], object]:
    return lambda directory, _: (directory / name).write_text(text)


CASES = [
    *(Case(f"weights are a pickle: {name}", _refused(_only_pickle(name))) for name in (*PICKLES, WEIGHTS)),
    *(Case(f"{kind} holds a pickle: {name}", _refused(_add_module(kind, name)))
      for kind in ("Dense", "LayerNorm") for name in ("pytorch_model.bin", "weights.pt", "model.bin")),
    *(Case(f"module {kind!r}", _refused(_edit_modules(type=kind))) for kind in MODULES),
    *(Case(f"module path {path!r}", _refused(_edit_modules(path=path)))
      for path in ("..", "../outside", "/etc", "a/../../outside", "1_Pooling/../..")),
    *(Case(f"{name}: {json.dumps(changes)[:70]}", _refused(_edited(name, changes)))
      for name, changes in CODE),
    *(Case(f"{what} beside the model: {name}", _harmless(
        lambda directory, world, name=name, what=what: (
            (directory / name).parent.mkdir(exist_ok=True),
            (directory / name).write_bytes(world.canary.code().encode() if what == "code" else world.canary.pickled()))))
      for name, what in HARMLESS),
    *(Case(f"activation {name}", _loaded(_activation(name)))
      for name in ("os.system", "evil.Evil", "torch.hub.load", "torch.os.system", "torch.utils.cpp_extension.load")),
    *(Case(f"router maps {key[:30]!r}", _router(key))
      for key in ("EXPRESSION", "__import__('os').system('id')", "(" * 5000, "[" * 300, "lambda: EXPRESSION", "{}", "\0")),
    Case("link to weights outside", _refused(_link(WEIGHTS, "OUTSIDE/model.safetensors"))),
    Case("link to a config outside", _refused(_link("config.json", "OUTSIDE/config.json"))),
    Case("link to a folder outside", _refused(_link("extra", "OUTSIDE", directory=True))),
    Case("link to the folder above", _refused(_link("extra", "..", directory=True))),
    Case("link to a folder within", _refused(_linked_folder("1_Pooling", "pool"))),
    Case("link to a folder among the blobs of a cache", _linked_blob),
    Case("link to /etc/passwd", _refused(_link("vocab.txt", "/etc/passwd"))),
    Case("link that leads nowhere", _refused(_link("extra.json", "../nowhere.json"))),
    *(Case(f"changed after the lock: {name}", _changed(_flip(name))) for name in (WEIGHTS, "tokenizer.json")),
    Case("weights gone after the lock", _changed(lambda directory: (directory / WEIGHTS).unlink())),
    Case("a file more after the lock", _changed(lambda directory: (directory / "more.safetensors").write_bytes(b"x"))),
    Case("modules changed after the lock", _changed(lambda directory: (directory / "modules.json").write_text("[]"))),
    Case("convert a pickle", _convert("pytorch_model.bin")),
    Case("convert a nested pickle", _convert("2_Dense/pytorch_model.bin")),
    Case("convert shards of pickles", _convert("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")),
    Case("config nested without end", _refused(_text("config.json", "[" * 200_000))),
    Case("modules nested without end", _refused(_text("modules.json", '{"a":' * 100_000))),
    Case("modules that are no list", _refused(_text("modules.json", '{"0": "evil.Evil"}'))),
    Case("a tokenizer class of its own", _loaded(_edited("tokenizer_config.json", {"tokenizer_class": "evil.Evil"}))),
    Case("a chat template that reaches for the system", _loaded(_text("chat_template.jinja", TEMPLATE))),
]  # fmt: skip
