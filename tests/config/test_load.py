"""From a file and `--set` to a `Config`: what is refused, and in which words."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.load import check_config, config_schema, dump_config, load_config
from pipeline.config.schema import Config
from pipeline.config.yaml_text import MAX_BYTES, parse_yaml
from pipeline.errors import ConfigError

MINIMAL = """\
input: {paths: [in], text: body}
model: {name: ./m}
output: {path: out}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small, right config."""
    path = tmp_path / "job.yaml"
    path.write_text(MINIMAL, encoding="utf-8")
    return path


def refusal(text: str, *overrides: str, tmp: Path) -> str:
    """What is said about a config."""
    path = tmp / "job.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def chain_of_aliases(length: int, times: int) -> str:
    """Each line holds the one before it so many times."""
    lines = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * times)}]\n" for i in range(1, length + 1)]
    return "a0: &a0 [x]\n" + "".join(lines)


def job(**sections: dict[str, Any]) -> dict[str, Any]:
    """The small config as values, with sections changed."""
    raw: dict[str, dict[str, Any]] = {
        "input": {"paths": ["in"], "text": "body"},
        "model": {"name": "./m"},
        "output": {"path": "out"},
    }
    for name, changes in sections.items():
        raw[name] = raw.get(name, {}) | changes
    return raw


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("outptu.path=x", "outptu: unknown key; did you mean output?"),
        ("output.partition=[a]", "did you mean output.partition_by?"),
        ("execution.truncate_dim=8", "did you mean model.truncate_dim?"),
        ("path=x", "did you mean output.path?"),
        ("rows.zzz=x", "there are rows.null, rows.empty"),
        ("output.file_mib=big", "output.file_mib: expected a valid integer, given 'big'"),
        ("output.file_mib=0", "output.file_mib: expected greater than or equal to 1, given 0"),
        ("input.paths=in", "input.paths: expected a list, given 'in'; write [in]"),
        ("input.text=7", "input.text: expected text, given 7; put it in quotes"),
        ("input.format=xml", "'parquet', 'arrow', 'jsonl', 'csv', 'tsv' or 'text' or 'auto', given 'xml'"),
        ("input=7", "input: expected a section with keys of its own, given 7"),
        ("input.template='{a}'", "set `text` or `template`, not both"),
        ("input.csv_delimiter=';;'", "input.csv_delimiter"),
        ("input.csv_delimiter='\"'", "input.csv_delimiter: '\"' already quotes a field or ends a row"),
        ('input.csv_delimiter="\\n"', r"input.csv_delimiter: '\n' already quotes a field or ends a row"),
        ('input.csv_delimiter="\\r"', r"input.csv_delimiter: '\r' already quotes a field or ends a row"),
        ("output.max_rejected_share=2", "output.max_rejected_share"),
        ('input.text=""', "input.text: an empty name is no column's; name one, or leave the key out"),
        ('input.id=""', "input.id: an empty name is no column's"),
        ('input.keep=["a", ""]', "input.keep[1]: an empty name is no column's"),
        ('output.partition_by=[""]', "output.partition_by[0]: an empty name is no column's"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_wanted(file: Path, override: str, said: str) -> None:
    """A typo that is passed over embeds the wrong thing for a night."""
    with pytest.raises(ConfigError) as caught:
        load_config(file, [override])
    assert said in str(caught.value)
    assert "pydantic" not in str(caught.value)


WHOLE_NUMBERS = [
    f"{section}.{name}"
    for section, part in Config.model_fields.items()
    for name, field in part.annotation.model_fields.items()  # type: ignore[union-attr]
    if "int" in str(field.annotation) or any("Ge" in str(rule) for rule in field.metadata)
]


@pytest.mark.parametrize("number", [2**61, 10**19])
@pytest.mark.parametrize("key", WHOLE_NUMBERS)
def test_no_number_is_larger_than_what_the_libraries_take(file: Path, key: str, number: int) -> None:
    """They raise what ends the run as a bug, or do nothing for ever."""
    with pytest.raises(ConfigError, match=rf"{key}: expected less than or equal to [\d,]+, given"):
        load_config(file, [f"{key}={number}"])


def test_all_problems_are_told_at_once_one_a_line(tmp_path: Path) -> None:
    said = refusal("input: {pahts: [x]}\nmodel: {precision: half}\noutput: {path: 7}\n", tmp=tmp_path).splitlines()
    assert said[0].endswith("job.yaml: 5 problems")
    assert [line.split(":")[0].strip() for line in said[1:]] == [
        "input.paths", "input.pahts", "model.name", "model.precision", "output.path",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("output.retain=3", "retain", 3),
        ("output.path=other out", "path", "other out"),
        ("output.path='7'", "path", "7"),
        ("output.partition_by=[lang, day]", "partition_by", ("lang", "day")),
        ("output.max_rejected_share=0", "max_rejected_share", 0.0),
        (" output.path = x ", "path", "x"),
        ("output.path=a=b", "path", "a=b"),
    ],
)
def test_a_setting_of_the_command_line_is_read_as_yaml(file: Path, override: str, key: str, value: object) -> None:
    assert getattr(load_config(file, [override]).output, key) == value


def test_later_settings_win_and_reach_sections_that_the_file_lacks(file: Path) -> None:
    config = load_config(
        file, ["execution.engine=ray", "execution={engine: serial}", "input.text=null", "rows.null=refuse"]
    )
    assert (config.execution.engine, config.input.text, config.rows.null) == ("serial", None, "refuse")


@pytest.mark.parametrize("override", ["output.path", "=x", "output..path=x", "output.path.deep=x", "output.path=[a"])
def test_a_setting_that_means_nothing_is_refused(file: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load_config(file, [override])


def test_a_section_with_everything_commented_out_means_its_defaults(tmp_path: Path, file: Path) -> None:
    file.write_text(MINIMAL + "rows:\n  # null: refuse\nexecution:\n", encoding="utf-8")
    assert load_config(file) == check_config(job(), "job")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected sections"),
        ("- a\n", "expected sections"),
        ("input: {paths: [**/*.parquet]}\n", "needs quotes"),
        ("input:\n  template: title: body\n", ":2:18: mapping values are not allowed here; text with a colon needs quotes"),
        ("input: !!python/object/apply:os.system [id]\n", "could not determine a constructor"),
        ("input: {paths: [a]}\ninput: {paths: [b]}\n", ":2:1: 'input' is given twice"),
        ("output: {path: a, path: b}\n", "'path' is given twice"),
        ("? [a]\n: b\n", "a key must be a word"),
        ("a: 1\n---\nb: 2\n", "but found another document"),
        ("a: " + "[" * 40 + "]" * 40, "nested more than 32 levels deep"),
        (chain_of_aliases(40, 1), "aliases included"),
        (chain_of_aliases(8, 9), "aliases written out"),
        ("a: &a [*a]\n", "levels deep"),
        ("a: \x00\n", "not YAML"),
        ("a: 2026-99-99\n", "not YAML"),
    ],
)  # fmt: skip
def test_yaml_that_is_not_plain_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    """Tags run code, aliases blow up, a doubled key hides the one that was meant."""
    assert said in refusal(text, tmp=tmp_path)


def test_keys_are_the_words_that_stand_there() -> None:
    """To YAML `null`, `on` and `no` are no words; `rows.null` is a key here."""
    assert parse_yaml("null: a\non: b\nno: c\n1: d\n", "x") == {"null": "a", "on": "b", "no": "c", "1": "d"}


def test_a_file_that_is_no_config_is_refused_unread(tmp_path: Path) -> None:
    """`-c data.parquet` must not be parsed for a minute, nor shown."""
    path = tmp_path / "x"
    for data, said in ((b"PAR1\xff\x00", "is not UTF-8"), (b"a" * (MAX_BYTES + 1), "is this the config?")):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
            load_config(path)
    for place in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="can't be read"):
            load_config(place)


def test_a_byte_order_mark_is_no_part_of_the_first_key(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_config(file).model.name == "./m"


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@settings(deadline=None)
@given(
    prompt=TEXT,
    delimiter=st.characters(codec="utf-8", exclude_characters='"\r\n'),
    keep=st.lists(TEXT, unique=True),
    share=st.floats(0, 1),
)
def test_a_dumped_config_loads_as_the_same(prompt: str, delimiter: str, keep: list[str], share: float) -> None:
    """`submit` sends the config to the cluster this way: a space less in the prompt is another model's vectors."""
    config = check_config(
        job(
            input={"csv_delimiter": delimiter, "keep": keep},
            model={"prompt": prompt},
            output={"max_rejected_share": share},
        ),
        "job",
    )
    assert check_config(parse_yaml(dump_config(config), "dump"), "dump") == config


def test_the_schema_for_editors_is_json_schema_and_knows_what_the_loader_knows() -> None:
    jsonschema.Draft202012Validator.check_schema(config_schema())
    validator = jsonschema.Draft202012Validator(config_schema())
    assert validator.is_valid(job())
    for wrong in (job(output={"retian": 1}), job(model={"precision": "half"}), {"input": {"paths": ["in"]}}):
        assert not validator.is_valid(wrong)
    missing = [
        name for name, section in config_schema()["$defs"].items() if section.get("additionalProperties") is not False
    ]
    assert not missing, "unknown keys are accepted there"


def test_a_config_is_frozen() -> None:
    config = Config.model_validate(job())
    with pytest.raises(ValueError, match="frozen"):
        config.output.path = "elsewhere"  # type: ignore[misc]
