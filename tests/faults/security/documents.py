"""Config files that try to run code, to use up memory or time, or to hide what they say."""

import time
from collections.abc import Callable
from pathlib import Path

from faults.security.case import Case, World, refused

from pipeline.config.load import load_config

LONGEST_S = 5.0  # generous: what is refused is refused in milliseconds
CALL = '["touch CANARY"]'
JOB = "input: {paths: [in], text: text}\nmodel: {name: ./m}\noutput: {path: out}\n"

TAGS = [
    f"!!python/object/apply:os.system {CALL}", f"!!python/object/new:os.system {CALL}",
    f"!!python/object/apply:subprocess.check_call [{CALL}]",
    "!!python/name:os.system", "!!python/module:os",
    '!!python/object:builtins.object {}', f"!!python/object/apply:builtins.eval {CALL}",
    f"!<tag:yaml.org,2002:python/object/apply:os.system> {CALL}", "!!python/tuple [a]", "!!python/bytes aGk=",
        "!!binary aGk=", "!!set {a}",
    "!!omap [a: 1]", "!!pairs [a: 1]", "!!timestamp x", "!!bool maybe", "!!int ''", "!!float ''", "!!map x", "!!seq x",
    "!!str [a]", "!evil x", "! x",
    "!ruby/object:Gem::Installer {i: x}", "!!javax.script.ScriptEngineManager [x]", "!!merge x", "!!null x",
]  # fmt: skip
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 31))
MERGES = "a0: &a0 {k0: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], k{n}: 1}}\n" for n in range(1, 31))
TEXTS = {
    "billion laughs": LAUGHS,
    "merged laughs": MERGES,
    "an alias to itself": "input: &a [*a]\n",
    "a merge of itself": "input: &a {<<: *a}\n",
    "lists nested without end": "input: " + "[" * 200_000,
    "mappings nested without end": "input: " + "{a: " * 200_000,
    "blocks nested without end": "- " * 400_000,
    "keys nested without end": "? " * 400_000,
    "a million entries": "input: [" + "x," * 400_000 + "]",
    "larger than a config may be": "#" * (1 << 20) + "\n" + JOB,
    "a number in base 60 without end": JOB + "units: {rows: " + ":".join(["1"] * 300_000) + "}\n",
    "a number in base 16 without end": JOB + "units: {rows: 0x" + "f" * 500_000 + "}\n",
    "a number in base 2 without end": JOB + "units: {rows: 0b" + "1" * 500_000 + "}\n",
    "a number without end": JOB + "units: {rows: " + "9" * 500_000 + "}\n",
    "a fraction in base 60 without end": JOB + "output: {file_mib: " + ":".join(["1"] * 300_000) + ".5}\n",
    "a key twice": JOB + "output: {path: elsewhere}\n",
    "a key twice inside": JOB.replace("{path: out}", "{path: out, path: elsewhere}"),
    "a key twice, once in quotes": JOB.replace("{path: out}", '{path: out, "path": elsewhere}'),
    "two documents": JOB + "---\n" + JOB,
    "a list as key": JOB + "? [a]\n: b\n",
    "an unknown section": JOB + "runtime_env: {pip: [evil]}\n",
    "a runtime_env": JOB + "execution: {runtime_env: {working_dir: /}}\n",
    "ray_init": JOB + "execution: {ray_init: {_system_config: {}}}\n",
    "trust_remote_code": JOB.replace("./m}", "./m, trust_remote_code: true}"),
    "storage options": JOB.replace("[in]", "[in], storage_options: {key: x}"),
    "a zero byte in a path": JOB.replace("path: out", 'path: "o\\0ut"'),
    "half a surrogate": JOB.replace("path: out", 'path: "o\\ud800ut"'),
    "half a surrogate in a prompt": JOB.replace("./m}", './m, prompt: "\\ud800"}'),
    "control characters": JOB + "\x1b]0;x\x07",
    "UTF-16": JOB.encode("utf-16").decode("latin-1"),
    "a template with a conversion": JOB.replace("text: text", 'template: "{title!r}"'),
    "a template that is wide": JOB.replace("text: text", 'template: "{title:>1000000000}"'),
    "numbers that are none": JOB + "units: {rows: .nan}\n",
    "an infinite share": JOB.replace("path: out", "path: out, max_rejected_share: .inf"),
    "a negative": JOB + "execution: {max_attempts: -1}\n",
}


def _text(text: str) -> Callable[[World], None]:
    def act(world: World) -> None:
        path = world.folder / "job.yaml"
        path.write_bytes(text.replace("CANARY", str(world.canary.file)).encode("utf-8", "surrogatepass"))
        began = time.process_time()  # a machine that has other things to do is no finding
        refused(lambda: load_config(path), 2)
        assert time.process_time() - began < LONGEST_S, "too slow"

    return act


def _override(text: str) -> Callable[[World], None]:
    """The same by `--set`."""

    def act(world: World) -> None:
        path = world.folder / "job.yaml"
        path.write_text(JOB)
        refused(lambda: load_config(path, [text.replace("CANARY", str(world.canary.file))]), 2)

    return act


def _special(path: str) -> Callable[[World], None]:
    return lambda world: (refused(lambda: load_config(Path(path)), 2), None)[1]


CASES = [
    *(Case(f"YAML tag {tag[:50]}", _text(f"input: {tag}\n{JOB.partition(chr(10))[2]}")) for tag in TAGS),
    *(Case(f"YAML tag on a key {tag[:50]}", _text(f"? {tag}\n: x\n")) for tag in TAGS[:3]),
    *(Case(f"YAML tag by --set {tag[:50]}", _override(f"input.text={tag}")) for tag in TAGS[:9]),
    Case("YAML tag by a directive", _text(f"%TAG ! tag:yaml.org,2002:python/\n---\ninput: !object/apply:os.system {CALL}\n")),
    *(Case(f"config with {name}", _text(text)) for name, text in TEXTS.items()),
    *(Case(f"--set {text}", _override(text))
      for text in ("__class__.x=1", "model.__init__=1", "execution.runtime_env.pip=[evil]", "a=b=c", "=x", "input..x=1",
          "input.paths.0=x")),
    *(Case(f"config is {path}", _special(path)) for path in ("/dev/zero", "/proc/self/mem", "/etc", "/dev/null")),
]  # fmt: skip
