"""What a job is: what is wanted (`input`, `model`, `rows`, `output`, `units`) what it must be good
for (`quality`) and how to carry it out (`execution`).

Only the first five decide what a row of the result is; the others may change between runs without redoing anything.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

Format = Literal["parquet", "arrow", "jsonl", "csv", "tsv", "text"]
Verdict = Literal["quarantine", "embed", "refuse"]


def _named(column: str) -> str:
    if not column:
        raise ValueError("an empty name is no column's; name one, or leave the key out")
    return column


Column = Annotated[str, AfterValidator(_named)]

MOST_TEXT_BYTES = 1 << 30
MOST_UNIT_ROWS = 1 << 30
MOST_COUNT = 1 << 20
MOST_THREADS = 4096
MOST_SECONDS = 30 * 24 * 3600
"""Beyond what anybody needs, and within what the libraries below take for a number."""


class Section(BaseModel):
    """A frozen part of the configuration; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Input(Section):
    """Where the text comes from."""

    paths: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="Files, directories or globs (`**` too); local paths, s3://, gs:// or az://."
    )
    format: Format | Literal["auto"] = Field("auto", description="`auto` goes by file name.")
    root: str | None = Field(
        None, description="Folder that generated ids are relative to. Default: the folder all paths have in common."
    )
    text: Column | None = Field(None, description="Column holding the text; `a.b` reaches into nested columns.")
    template: str | None = Field(None, description="Text from several columns, for example `{title}\\n\\n{body}`.")
    id: Column | None = Field(None, description="Column holding the row's id. Default: generated from file and row.")
    keep: tuple[Column, ...] = Field((), description="Columns carried to the output as they are.")
    csv_delimiter: Annotated[str, Field(min_length=1, max_length=1)] = Field(
        ",", description="For .csv files; .tsv files use a tab. Neither a quote nor a line end."
    )

    @field_validator("csv_delimiter")
    @classmethod
    def _delimits(cls, value: str) -> str:
        if value in ('"', "\n", "\r"):
            raise ValueError(
                f"{value!r} already quotes a field or ends a row; give the character that stands between two fields, as `;`"
            )
        return value

    @model_validator(mode="after")
    def _one_text(self) -> "Input":
        if self.text is not None and self.template is not None:
            raise ValueError("set `text` or `template`, not both")
        return self


class Model(Section):
    """Which vectors are wanted."""

    name: str = Field(
        description="A directory, an fsspec URL, `package:NAME` for a model carried by an installed package, or a hub id."
    )
    revision: str | None = Field(None, description="40-character commit of a hub id; required for one.")
    prompt: str | None = Field(None, description="Text put before every row.")
    prompt_name: str | None = Field(None, description="Name of one of the model's own prompts.")
    task: str | None = Field(None, description="Route of a model with a Router: for example `query` or `document`.")
    max_tokens: Annotated[int, Field(ge=2, le=MOST_COUNT)] | None = Field(
        None, description="Cut texts at this many tokens instead of the model's own limit."
    )
    truncate_dim: Annotated[int, Field(ge=1, le=MOST_COUNT)] | None = Field(
        None, description="Keep the first dimensions only; renormalised where the model normalises."
    )
    precision: Literal["gated", "exact"] = Field(
        "gated",
        description="`exact`: float32. `gated`: half precision where the hardware has it natively and the parity gate passes.",
    )

    @model_validator(mode="after")
    def _one_prompt(self) -> "Model":
        if self.prompt is not None and self.prompt_name is not None:
            raise ValueError("set `prompt` or `prompt_name`, not both")
        return self


class Rows(Section):
    """What becomes of rows that are not plain text. `quarantine` keeps the row aside with its reason; `refuse` fails
    the unit that holds it."""

    null: Literal["quarantine", "refuse"] = "quarantine"
    empty: Verdict = Field("embed", description="Empty or whitespace-only text.")
    invalid_utf8: Literal["quarantine", "refuse"] = "quarantine"
    lone_surrogate: Literal["quarantine", "refuse"] = "quarantine"
    not_a_string: Literal["quarantine", "refuse"] = "quarantine"
    malformed: Literal["quarantine", "refuse"] = Field("refuse", description="A line that is not JSON.")
    null_id: Literal["quarantine", "refuse"] = "quarantine"
    oversize: Literal["quarantine", "refuse"] = Field("quarantine", description="Text longer than max_text_bytes.")
    not_finite: Literal["quarantine", "refuse"] = Field(
        "quarantine", description="A vector with NaN or infinity even when the text is encoded alone."
    )
    duplicate_id: Literal["keep", "refuse"] = Field(
        "keep", description="`keep` counts them too, of up to 250 million rows."
    )
    max_text_bytes: Annotated[int, Field(ge=1, le=MOST_TEXT_BYTES)] = Field(
        8 << 20, description="Cap on one text, in bytes of UTF-8."
    )


class Units(Section):
    """Caps on one unit of work, the unit of retry and of progress. Whichever is reached first cuts."""

    rows: Annotated[int, Field(ge=1, le=MOST_UNIT_ROWS)] = 16_384
    text_mib: Annotated[int, Field(ge=1, le=1024)] = 32
    vector_mib: Annotated[int, Field(ge=1, le=1024)] = 64


class Output(Section):
    """Where the vectors go and how they lie there."""

    path: str = Field(description="Folder of the result: a local path, s3://, gs:// or az://.")
    mode: Literal["mirror", "append"] = Field(
        "mirror",
        description="`mirror`: the snapshot follows the input, also when files go. `append`: nothing is dropped.",
    )
    partition_by: tuple[Column, ...] = Field((), description="Columns that become `column=value` folders.")
    vector_type: Literal["list", "fixed_size_list"] = "list"
    file_mib: Annotated[int, Field(ge=1, le=4096)] = Field(192, description="Size a data file aims at.")
    retain: Annotated[int, Field(ge=1, le=MOST_COUNT)] = Field(1, description="How many snapshots stay readable.")
    max_rejected_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.01, description="Past this share of rows quarantined or in failed units, nothing is published."
    )


class Quality(Section):
    """What the vectors must be good for. Measured on a sample of the input before anything is encoded."""

    min_recall: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="Of the ten nearest neighbours by the model's vectors in float32, whole and of texts cut at its own limit, "
        "the share that these settings must find as well.",
    )
    sample_rows: Annotated[int, Field(ge=100, le=100_000)] = Field(2000, description="Texts that are compared.")


class Execution(Section):
    """How to carry it out. Nothing here changes a vector."""

    engine: Literal["ray", "serial"] = "ray"
    address: str | None = Field(None, description="A running Ray cluster; default: a Ray of its own on this machine.")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    replicas: Annotated[int, Field(ge=1, le=MOST_COUNT)] | None = Field(
        None, description="Model replicas. Default: one per GPU; without GPUs as many as fill the cores."
    )
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] | None = Field(
        None, description="CPU threads of one replica."
    )
    token_budget: Annotated[int, Field(ge=64, le=MOST_UNIT_ROWS)] | None = Field(
        None, description="Tokens of one forward pass."
    )
    wave_units: Annotated[int, Field(ge=1, le=100_000)] = Field(20_000, description="Segments of one Ray Data graph.")
    max_attempts: Annotated[int, Field(ge=1, le=MOST_COUNT)] = Field(
        3, description="Rounds without any progress before giving up."
    )
    unit_timeout_s: Annotated[int, Field(ge=1, le=MOST_SECONDS)] = Field(
        600, description="A worker without any progress for this long is killed; a forward pass is progress."
    )
    model_cache: str | None = Field(None, description="Where models are staged on a node. Default: ~/.cache/embedpipe.")
    log_format: Literal["text", "json"] = "text"
    events: str | None = Field(None, description="Local file to which progress events are appended as JSON lines.")


class Config(Section):
    """One job."""

    input: Input
    model: Model
    rows: Rows = Rows()
    units: Units = Units()
    output: Output
    quality: Quality = Quality()
    execution: Execution = Execution()
