"""What a model is, by content, and what is refused."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize, Pooling, Router
from support.models import HIDDEN, edit_json, make_transformer, save_model

from pipeline.errors import ConfigError, ModelError
from pipeline.model.inspect import inspect_model
from pipeline.model.lock import ModelLock
from pipeline.model.modules import find_route


def inspect(directory: Path | str) -> ModelLock:
    return inspect_model(Path(directory), "m", None)


@pytest.fixture
def model(tmp_path: Path, tiny_model: str) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_the_lock_of_the_real_model(minilm: str) -> None:
    lock = inspect(minilm)
    assert [(module.path, module.type) for module in lock.modules] == [
        ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"),
    ]  # fmt: skip
    assert (lock.dimensions, lock.normalized, lock.include_prompt) == (384, True, True)
    assert (lock.max_tokens, lock.declared_max_tokens) == (256, None)
    assert (lock.prompts, lock.default_prompt_name, lock.tasks) == ((), None, ())
    assert {"model.safetensors", "tokenizer.json", "1_Pooling/config.json", "modules.json"} <= {
        name for name, _ in lock.files
    }
    assert lock.files == tuple(sorted(lock.files))


def test_the_same_files_are_the_same_model_wherever_they_lie(tmp_path: Path, tiny_model: str) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "README.md").write_text("other words")
    here, there = inspect(tiny_model), inspect_model(copy, "another name", "0" * 40)
    assert here.identity() == there.identity()
    edit_json(copy / "1_Pooling" / "config.json", pooling_mode="max")
    assert inspect(copy).identity() != here.identity()
    assert inspect(copy).weights_hash == here.weights_hash


@pytest.mark.parametrize(
    ("pooling", "dimensions"),
    [
        ({"pooling_mode": "cls"}, 32),
        ({"pooling_mode": ["cls", "mean", "max"]}, 96),
        ({"pooling_mode": None, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}, 32),
        ({"pooling_mode": None, "pooling_mode_cls_token": True, "pooling_mode_lasttoken": True}, 64),
        ({"pooling_mode": None, "embedding_dimension": None, "word_embedding_dimension": 32}, 32),
    ],
)
def test_the_length_of_vectors_in_all_ways_pooling_was_ever_written(
    model: Path, pooling: dict[str, Any], dimensions: int
) -> None:
    from sentence_transformers import SentenceTransformer

    edit_json(model / "1_Pooling" / "config.json", **pooling)
    assert inspect(model).dimensions == dimensions
    assert SentenceTransformer(str(model), device="cpu", local_files_only=True).encode(["a"]).shape == (1, dimensions)


@pytest.mark.parametrize(
    "package", ["sentence_transformers.models", "sentence_transformers.sentence_transformer.modules"]
)
def test_modules_of_older_and_newer_cards_are_the_same(model: Path, package: str) -> None:
    listing = json.loads((model / "modules.json").read_text())
    for module in listing:
        module["type"] = f"{package}.{module['type'].rpartition('.')[2]}"
    (model / "modules.json").write_text(json.dumps(listing))
    assert [module.type for module in inspect(model).modules] == ["Transformer", "Pooling", "Normalize"]


# The limit


@pytest.mark.parametrize(
    ("kind", "positions", "max_tokens"),
    [("bert", 66, 66), ("distilbert", 66, 66), ("mpnet", 66, 64), ("roberta", 66, 64), ("xlm-roberta", 66, 64)],
)
def test_the_limit_is_what_the_table_of_positions_can_address(
    tmp_path: Path, kind: str, positions: int, max_tokens: int
) -> None:
    """RoBERTa's positions begin behind the padding index: of 514 rows 512 can be used."""
    directory = save_model(
        tmp_path / "m", [make_transformer(tmp_path / "b", kind, positions=positions), Pooling(HIDDEN)]
    )
    assert inspect(directory).max_tokens == max_tokens
    edit_json(Path(directory, "sentence_bert_config.json"), max_seq_length=1280)
    assert (inspect(directory).max_tokens, inspect(directory).declared_max_tokens) == (max_tokens, 1280)
    edit_json(Path(directory, "sentence_bert_config.json"), max_seq_length=20)
    assert (inspect(directory).max_tokens, inspect(directory).declared_max_tokens) == (20, None)


@pytest.mark.parametrize("kind", ["qwen2", "modernbert"])
def test_models_without_a_table_take_what_they_say(tmp_path: Path, kind: str) -> None:
    """Rotary positions have no end; what the config says counts only where nobody has said anything else."""
    directory = Path(save_model(tmp_path / "m", [make_transformer(tmp_path / "b", kind), Pooling(HIDDEN)]))
    assert inspect(directory).max_tokens == 66
    edit_json(directory / "sentence_bert_config.json", max_seq_length=1000)
    assert (inspect(directory).max_tokens, inspect(directory).declared_max_tokens) == (1000, None)


@pytest.mark.parametrize(
    ("file", "change", "max_tokens"),
    [
        ("sentence_bert_config.json", {"max_seq_length": 50}, 50),
        ("sentence_bert_config.json", {"processor_kwargs": {"model_max_length": 40}}, 40),
        ("sentence_bert_config.json", {"tokenizer_args": {"model_max_length": 40}}, 40),
        ("tokenizer_config.json", {"model_max_length": 30}, 30),
        ("tokenizer_config.json", {"model_max_length": int(1e30)}, 128),
        ("tokenizer_config.json", {"model_max_length": None}, 128),
    ],
)
def test_the_limit_is_read_where_sentence_transformers_reads_it(
    model: Path, file: str, change: dict[str, Any], max_tokens: int
) -> None:
    from sentence_transformers import SentenceTransformer

    edit_json(model / file, **change)
    assert inspect(model).max_tokens == max_tokens
    assert SentenceTransformer(str(model), device="cpu", local_files_only=True).max_seq_length == max_tokens


# Routes


def make_router(tmp_path: Path, *others: Any, **settings: Any) -> Path:
    backbone = make_transformer(tmp_path / "b", "bert")
    routes = {"query": [backbone, Pooling(HIDDEN, "mean")], "document": [backbone, *others]}
    return Path(save_model(tmp_path / "m", [Router(routes, **settings)]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "task", "route"),
    [
        ({}, None, "query"),
        ({"default_route": "document"}, None, "document"),
        ({"default_route": "document"}, "query", "query"),
        ({"route_mappings": {("ask", "text"): "query", (None, None): "document"}}, "ask", "query"),
        ({"route_mappings": {("ask", "text"): "query", (None, None): "document"}}, "query", "document"),
        ({"route_mappings": {("ask", None): "query", (None, "text"): "document"}}, None, "document"),
        ({"route_mappings": {("ask", None): "query"}}, "document", "document"),
    ],
)
def test_the_route_is_the_one_sentence_transformers_takes(
    tmp_path: Path, settings: dict[str, Any], task: str | None, route: str
) -> None:
    from sentence_transformers import SentenceTransformer

    directory = make_router(tmp_path, Pooling(HIDDEN, "cls"), **settings)
    assert find_route(directory, task) == route
    router: Any = SentenceTransformer(str(directory), device="cpu", local_files_only=True)[0]
    assert router._resolve_route(task=task, modality="text") == route


def test_a_task_no_route_is_meant_for_is_refused(tmp_path: Path) -> None:
    directory = make_router(tmp_path, Pooling(HIDDEN, "cls"))
    with pytest.raises(ConfigError, match="'qwery', but the model's routes are document, query"):
        find_route(directory, "qwery")
    none = make_router(tmp_path / "2", Pooling(HIDDEN, "cls"), allow_empty_key=False)
    with pytest.raises(ConfigError, match=r"no default route; set model\.task to one of document, query"):
        find_route(none, None)


@pytest.mark.parametrize(
    ("others", "what"),
    [
        (lambda folder: [Pooling(HIDDEN, ("cls", "mean"))], "vector length"),
        (lambda folder: [Pooling(HIDDEN), Normalize()], "normalisation"),
        (lambda folder: [Pooling(HIDDEN, include_prompt=False)], "way with prompts"),
    ],
)
def test_routes_that_differ_in_what_the_recipe_says_are_refused(
    tmp_path: Path, others: Callable[[Path], list[Any]], what: str
) -> None:
    """One recipe says one vector length; the readers have one tokenizer."""
    with pytest.raises(ModelError, match=f"route 'document' has another {what} than"):
        inspect(make_router(tmp_path, *others(tmp_path)))


def test_routes_with_different_tokenizers_or_limits_are_refused(tmp_path: Path) -> None:
    routes = {
        kind: [make_transformer(tmp_path / kind, kind, positions=positions), Pooling(HIDDEN)]
        for kind, positions in (("bert", 66), ("roberta", 40))
    }
    with pytest.raises(ModelError, match="'roberta' has another length limit and tokenizer than"):
        inspect(save_model(tmp_path / "m", [Router(routes)]))  # type: ignore[arg-type]


# Prompts


def test_prompts_are_found_by_name_and_a_misspelt_one_is_refused(tmp_path: Path) -> None:
    """A prompt that is silently left out gives wrong vectors for the whole corpus."""
    modules = [make_transformer(tmp_path / "b", "bert"), Pooling(HIDDEN)]
    directory = save_model(tmp_path / "m", modules, prompts={"query": "find: "}, default_prompt_name="query")
    lock = inspect(directory)
    assert lock.default_prompt_name == "query"
    assert (lock.prompt_named("query"), lock.prompt_named("document")) == ("find: ", "")
    with pytest.raises(ConfigError, match="prompt_name is 'qwery', but the model's prompts are document, query"):
        lock.prompt_named("qwery")


# What is refused


def modules_json(*types: str) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        listing = [
            {"idx": n, "name": str(n), "path": f"{n}_X" if n else "", "type": kind} for n, kind in enumerate(types)
        ]
        (model / "modules.json").write_text(json.dumps(listing))

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda model: (model / name).unlink()


def remove_folder(name: str) -> Callable[[Path], None]:
    return lambda model: shutil.rmtree(model / name)


def write(name: str, data: bytes) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(data)

    return change


def edit(name: str, **changes: Any) -> Callable[[Path], None]:
    return lambda model: edit_json(model / name, **changes)


def only_bin(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def link_out(model: Path) -> None:
    outside = model.parent / "outside.json"
    outside.write_text("{}")
    (model / "added_tokens.json").symlink_to(outside)


def link_in_a_circle(model: Path) -> None:
    (model / "a.json").symlink_to("b.json")
    (model / "b.json").symlink_to("/nowhere/../a.json")


def module_outside(model: Path) -> None:
    listing = json.loads((model / "modules.json").read_text())
    listing[1]["path"] = "../1_Pooling"
    (model / "modules.json").write_text(json.dumps(listing))


def cut_off(model: Path) -> None:
    data = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(data[: len(data) // 2])


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 90868376\n"
ST = "sentence_transformers.models"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("modules.json"), r"modules\.json is missing"),
        (write("modules.json", b"[]"), "lists no modules"),
        (write("modules.json", b'["Transformer"]'), "lists no modules"),
        (write("modules.json", b"{"), "can't be read as JSON"),
        (write("modules.json", b"\xff\xfe"), "can't be read as JSON"),
        (remove("config.json"), r"config\.json is missing"),
        (write("config.json", b"[1]"), "holds no JSON object"),
        (modules_json(f"{ST}.Transformer", "mine.Pooling"), "'mine.Pooling' is not one this program can vouch for"),
        (modules_json(f"{ST}.Transformer", "sentence_transformersx.Pooling"), "can vouch for"),
        (modules_json(f"{ST}.Transformer", f"{ST}.CNN", f"{ST}.Pooling"), "models.CNN' is not one"),
        (modules_json(f"{ST}.Transformer"), "no Transformer with a Pooling behind it, but Transformer$"),
        (modules_json(f"{ST}.Pooling", f"{ST}.Transformer"), "no Transformer with a Pooling behind it"),
        (module_outside, "'../1_Pooling' leads out of the model directory"),
        (edit("config.json", auto_map={"AutoModel": "modeling_x.X"}), r"config\.json: 'auto_map' asks for code"),
        (edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["t.T", None]}), "'auto_map' asks for code"),
        (edit("preprocessor_config.json", auto_map={"AutoProcessor": "t.T"}), "'auto_map' asks for code"),
        (edit("1_Pooling/config.json", auto_map={"X": "t.T"}), "'auto_map' asks for code"),
        (link_out, r"added_tokens\.json is a link to a place outside"),
        (link_in_a_circle, "is a link to a place outside"),
        (only_bin, r"as safetensors, but pytorch_model\.bin\. Other formats can carry code.*convert-model"),
        (remove("model.safetensors"), "holds no weights as safetensors. Other formats"),
        (write("model.safetensors", POINTER), r"is a Git LFS pointer, not the file itself; run `git lfs pull`"),
        (write("tokenizer.json", POINTER), r"tokenizer\.json.* Git LFS pointer"),
        (write("model.safetensors", b""), "is not a safetensors file"),
        (write("model.safetensors", b"\xff" * 100), "is not a safetensors file"),
        (write("model.safetensors", struct.pack("<Q", 2) + b"[]"), "is not a safetensors file"),
        (cut_off, "was cut off, fetch it again"),
        (write("adapter_config.json", b"{}"), "adapter to another model"),
        (edit("config_sentence_transformers.json", model_type="CrossEncoder"), "is a CrossEncoder"),
        (edit("sentence_bert_config.json", transformer_task="fill-mask"), "elsewhere than the last hidden state"),
        (edit("sentence_bert_config.json", modality_config={"message": {"method": "forward"}}), "elsewhere than"),
        (edit("sentence_bert_config.json", processing_kwargs={"text": {"max_length": 9}}), "setting 'processing_kwargs'"),
        (edit("sentence_bert_config.json", query_length=9), "setting 'query_length'"),
        (remove_folder("1_Pooling"), r"1_Pooling/config\.json is missing"),
        (edit("1_Pooling/config.json", pooling_mode="zzz"), "pooling_mode is 'zzz'; known are cls, lasttoken, max, mean,"),
        (edit("1_Pooling/config.json", pooling_mode=["cls", "zzz"]), r"pooling_mode is \['cls', 'zzz'\]"),
        (edit("1_Pooling/config.json", pooling_mode=[]), r"pooling_mode is \[\]"),
        (edit("1_Pooling/config.json", embedding_dimension=64), "takes vectors of 64 dimensions, and those before it are of 32"),
        (edit("1_Pooling/config.json", embedding_dimension=None), "does not say how long the vectors are that this Pooling"),
        (edit("config.json", hidden_size=48), "takes vectors of 32 dimensions, and those before it are of 48"),
        (edit("config.json", hidden_size="wide"), "a setting of the model is of another kind than expected"),
        (edit("sentence_bert_config.json", max_seq_length="long"), "a setting of the model is of another kind"),
        (edit("config_sentence_transformers.json", prompts=["a"]), "a setting of the model is of another kind"),
    ],
)  # fmt: skip
def test_what_can_not_be_vouched_for_is_refused(model: Path, spoil: Callable[[Path], None], message: str) -> None:
    inspect(model)
    spoil(model)
    with pytest.raises(ModelError, match=message):
        inspect(model)


@pytest.mark.parametrize("module", [Dense(HIDDEN, 8), LayerNorm(HIDDEN)], ids=["Dense", "LayerNorm"])
def test_weights_of_every_module_must_be_safetensors(tmp_path: Path, module: Any) -> None:
    """sentence-transformers would fall back to the pickle of one module without a word."""
    directory = Path(save_model(tmp_path / "m", [make_transformer(tmp_path / "b", "bert"), Pooling(HIDDEN), module]))
    inspect(directory)
    [weights] = directory.glob("2_*/model.safetensors")
    weights.rename(weights.with_name("pytorch_model.bin"))
    (weights.parent / "other.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"2_.* holds no weights as safetensors, but pytorch_model\.bin"):
        inspect(directory)


@pytest.mark.parametrize(("taken", "fits"), [(2 * HIDDEN, True), (HIDDEN, False)])
def test_a_dense_must_take_what_the_pooling_gives(tmp_path: Path, taken: int, fits: bool) -> None:
    """Two poolings are joined. It would fail on the first worker, after a cluster was asked for."""
    modules = [make_transformer(tmp_path / "b", "bert"), Pooling(HIDDEN, ("cls", "mean")), Dense(2 * HIDDEN, 8)]
    directory = Path(save_model(tmp_path / "m", modules))
    edit_json(directory / "2_Dense" / "config.json", in_features=taken)
    if fits:
        assert inspect(directory).dimensions == 8
        return
    with pytest.raises(ModelError, match="this Dense takes vectors of 32 dimensions, and those before it are of 64"):
        inspect(directory)


def test_a_folder_that_holds_nothing_may_be_missing(model: Path) -> None:
    """Neither Git nor an object store keeps an empty folder."""
    shutil.rmtree(model / "2_Normalize")
    assert inspect(model).normalized


def test_a_transformer_whose_states_have_another_width_than_it_says_is_not_refused_for_it(model: Path) -> None:
    """OPT projects them, and says both widths."""
    edit_json(model / "config.json", model_type="opt", hidden_size=64)
    assert inspect(model).dimensions == 32


def test_a_training_file_beside_the_weights_does_no_harm(model: Path) -> None:
    (model / "training_args.bin").write_bytes(b"")
    (model / "data_config.json").write_text('[{"name": "reddit"}]')
    inspect(model)


def test_links_within_the_directory_and_to_it_are_fine(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").rename(model / "weights")
    (model / "model.safetensors").symlink_to("weights")
    (tmp_path / "link").symlink_to(model)
    assert inspect(tmp_path / "link").identity() == inspect(model).identity()


def test_a_link_out_is_found_behind_a_linked_directory_too(model: Path, tmp_path: Path) -> None:
    link_out(model)
    (tmp_path / "link").symlink_to(model)
    with pytest.raises(ModelError, match="is a link to a place outside"):
        inspect(tmp_path / "link")


def test_blobs_are_the_hub_cache_only_for_a_snapshot(model: Path, tmp_path: Path) -> None:
    """A folder called blobs two levels up is nobody's cache."""
    inner = tmp_path / "a" / "b"
    shutil.copytree(model, inner)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "x").write_text("{}")
    (inner / "added_tokens.json").symlink_to(tmp_path / "blobs" / "x")
    with pytest.raises(ModelError, match="is a link to a place outside"):
        inspect(inner)
