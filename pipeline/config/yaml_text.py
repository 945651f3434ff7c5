"""YAML text → plain mappings, lists and scalars, with limits on what a file may make of us.

Stricter than `yaml.safe_load`: a key given twice is an error, a key is the text that stands there (`null:` and `on:`
are words here, as in `rows.null`), tags (`!!int`, `!!python/…`) are not taken, and neither nesting nor aliases nor
numbers can blow up.
"""

from typing import Any

import yaml

from pipeline.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 20_000
"""Counted with every alias written out."""
MAX_DIGITS = 64
"""Of a number. YAML's base 60 (`1:30:00`) takes quadratic time, and Python won't print what has thousands of digits."""


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML document. Raises ConfigError naming `where`, line and column."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, 0, 0)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{where}{_place(error)}: {error.problem or 'not YAML'}{_hint(error)}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{where}: not YAML: {error}") from error


def write_yaml(value: Any) -> str:
    """The canonical YAML text of plain values: keys in the order given, one item a line."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=110)


class _Dumper(yaml.SafeDumper):
    """Writes text that holds a line end other than `\\n` in quotes, escaped; unescaped it would come back as a space."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    odd = any(character in "\r\x85\u2028\u2029\ufeff" for character in text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if odd else None)


_Dumper.add_representer(str, _represent_text)


class _Loader(yaml.SafeLoader):
    depth = nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        self.nodes += 1
        if self.depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise yaml.MarkedYAMLError(
                problem=_TOO_DEEP if self.depth > MAX_DEPTH else f"more than {MAX_NODES} values",
                problem_mark=self.get_mark(),
            )
        tag = getattr(self.peek_event(), "tag", None)  # type: ignore[no-untyped-call]
        if tag is not None:
            problem = f"could not determine a constructor for the tag {tag!r}: tags are not taken; put text in quotes"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.get_mark())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=key.start_mark)
        if key.value in seen and key.tag != _MERGE:
            raise yaml.MarkedYAMLError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return {key.value: loader.construct_object(value, deep=True) for key, value in node.value}


def _construct_number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    if len(node.value) > MAX_DIGITS:
        raise yaml.MarkedYAMLError(problem=f"a number of more than {MAX_DIGITS} digits", problem_mark=node.start_mark)
    whole = node.tag == "tag:yaml.org,2002:int"
    number: int | float = loader.construct_yaml_int(node) if whole else loader.construct_yaml_float(node)
    return number


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_number)
_MERGE = "tag:yaml.org,2002:merge"
_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"


def _count(node: yaml.Node, seen: int, depth: int) -> int:
    """Nodes below `node`, with aliases written out, on top of `seen`."""
    if depth > MAX_DEPTH:
        raise yaml.MarkedYAMLError(problem=f"{_TOO_DEEP}, aliases included", problem_mark=node.start_mark)
    seen += 1
    if seen > MAX_NODES:
        raise yaml.MarkedYAMLError(
            problem=f"more than {MAX_NODES} values with its aliases written out", problem_mark=node.start_mark
        )
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            for child in pair:
                seen = _count(child, seen, depth + 1)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            seen = _count(child, seen, depth + 1)
    return seen


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f":{mark.line + 1}:{mark.column + 1}" if mark else ""


def _hint(error: yaml.MarkedYAMLError) -> str:
    if "alias" in (error.problem or "") or "alias" in (error.context or ""):
        return '; a glob that begins with `*` needs quotes, as in "**/*.parquet"'
    if "mapping values" in (error.problem or ""):
        return "; text with a colon needs quotes"
    return ""
