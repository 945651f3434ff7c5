"""What is said of a failure over a model: that it is the model's, or this machine's."""

import errno
import shutil
from pathlib import Path

import pytest
import torch
from support.models import edit_json

from pipeline.encode.blame import blamed_on_model, is_machines
from pipeline.encode.encoder import load_model
from pipeline.errors import EncodeError, ModelError


def wrapped(outer: Exception, inner: Exception) -> Exception:
    """As a library raises one error while it handles another."""
    outer.__context__ = inner
    return outer


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Cannot allocate memory (os error 12)"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("unable to mmap 90868376 bytes from file <model.safetensors>: Cannot allocate memory (12)"),
        RuntimeError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`"),
        RuntimeError("No CUDA GPUs are available"),
        RuntimeError("Found no NVIDIA driver on your system"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
        RuntimeError("can't start new thread"),
        AssertionError("Torch not compiled with CUDA enabled"),
        ImportError("BertJapaneseTokenizer requires the fugashi library"),
        OSError(errno.EIO, "Input/output error"),
        PermissionError(errno.EACCES, "Permission denied"),
        OSError("No such device (os error 19)"),
        wrapped(OSError("Can't load the configuration of 'm'"), OSError(errno.EIO, "Input/output error")),
        wrapped(ValueError("this tokenizer can't be made"), ModuleNotFoundError("No module named 'sentencepiece'")),
    ],
    ids=str,
)  # fmt: skip
def test_what_the_machine_is_to_blame_for_stays_what_it_was(error: Exception) -> None:
    """Called the model's, it would end a whole cluster's run over one worker's broken GPU, and nobody would run it again."""
    assert is_machines(error)
    with pytest.raises(type(error)) as raised, blamed_on_model("m", "can't be loaded"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("The checkpoint has model type `zzz` but Transformers does not recognize this architecture"),
        RuntimeError("You set `ignore_mismatched_sizes` to `False`, thus raising an error"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (7x32 and 48x8)"),
        IndexError("index out of range in self"),
        TypeError("__init__() missing 1 required positional argument"),
        OSError("Error no file named model.safetensors found in directory m"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        AssertionError(),
    ],
    ids=str,
)
def test_what_the_model_is_to_blame_for_says_so_in_one_line(error: Exception) -> None:
    """As anything else it was a bug of this program on one machine, and a broken machine on a cluster."""
    assert not is_machines(error)
    with pytest.raises(ModelError) as raised, blamed_on_model("/models/m", "can't be loaded"):
        raise error
    assert raised.value.message.startswith(f"/models/m: the model can't be loaded ({type(error).__name__}")
    assert str(error) in raised.value.message
    assert "transformers " in raised.value.message
    assert "\n" not in raised.value.message


def test_what_has_its_own_words_already_keeps_them() -> None:
    with pytest.raises(EncodeError, match=r"^as it was$"), blamed_on_model("m", "can't be loaded"):
        raise EncodeError("as it was")


def test_an_error_that_came_of_itself_is_looked_at_once() -> None:
    """Some libraries raise what they have caught anew."""
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert not is_machines(one)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", {"model_type": "zzz"}, "ValueError: .*model type `zzz`"),
        ("config.json", {"num_attention_heads": 5}, r"ValueError: The hidden size \(32\) is not a multiple"),
        ("config.json", {"vocab_size": 100}, "RuntimeError: .*ignore_mismatched_sizes"),
    ],
)
def test_a_model_that_its_library_does_not_take_is_refused_with_the_librarys_words(
    tmp_path: Path, tiny_model: str, file: str, change: dict[str, object], said: str
) -> None:
    """An architecture that the installed transformers doesn't know yet is the common case."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    edit_json(model / file, **change)
    with pytest.raises(ModelError, match=rf"^{model}: the model can't be loaded \({said}"):
        load_model(str(model), "cpu")
