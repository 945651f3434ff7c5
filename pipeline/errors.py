"""Every error this program raises on purpose, drawn as one tree.

    EmbedpipeError
    ├── ConfigError            the configuration is wrong                              exit 2
    ├── ModelError             the model is refused, missing or has changed            exit 2
    ├── InputError             the input is refused: unreadable, no column, drifted    exit 3
    │   └── SourceChanged      a file changed under the reader         exit 4, retry: plan again
    ├── RefusedError           going on would mix or lose data, or give less than demanded   exit 3
    ├── StorageError           the store refuses or can't be trusted                   exit 4
    │   └── TransientStorageError   the store was slow or away          retry: ask again
    ├── CommitError            a record contradicts the protocol                       exit 1
    │   └── Overtaken          another driver published first           retry: plan again
    ├── EncodeError            the encoder gave something that can't be used           exit 4
    │   └── ParityError        the vectors aren't the model's own                      exit 3
    ├── IncompleteError        stopped before the end; a re-run goes on                exit 4
    ├── QuarantineError        more rows rejected than allowed; nothing published      exit 5
    └── VerificationError      what is stored is not what the records say              exit 6

A message says what happened, where (URI, row), what was expected and found, and what to do. It never holds a
secret: URIs come without credentials. All of them survive pickling, since they cross process boundaries.
"""

from typing import ClassVar


class EmbedpipeError(Exception):
    """Root of the tree. `exit_code` is what the command ends with; `retry` says whether trying again can help."""

    exit_code: ClassVar[int] = 1
    retry: ClassVar[bool] = False

    def __init__(self, message: str, uri: str = "") -> None:
        """uri: of the source file it is about, where that is known."""
        super().__init__(message)
        self.message = message
        self.uri = uri


def first_line(error: BaseException, *, named: bool = False) -> str:
    """The first line of what an exception of somebody else's says, `named` with its type before it; the type alone where it
    says nothing."""
    kind, text = type(error).__name__, str(error).strip()
    line = text.splitlines()[0] if text else ""
    return f"{kind}: {line}" if named and line else line or kind


class ConfigError(EmbedpipeError):
    """The configuration can't be used as written."""

    exit_code = 2


class ModelError(EmbedpipeError):
    """The model can't be found, isn't safe to load, or isn't the one that was locked."""

    exit_code = 2


class InputError(EmbedpipeError):
    """An input file can't be read as configured; the message names the file and the place in it."""

    exit_code = 3


class SourceChanged(InputError):
    """A file is no longer the version that was planned. The next plan sees the new one."""

    exit_code = 4
    retry = True


class RefusedError(EmbedpipeError):
    """Doing what was asked would mix, shrink or overwrite published data, or give vectors that are worse than demanded."""

    exit_code = 3


class StorageError(EmbedpipeError):
    """The store refuses a request for good, or lacks what the protocol needs."""

    exit_code = 4


class TransientStorageError(StorageError):
    """The store didn't answer in time or asked to slow down."""

    retry = True


class CommitError(EmbedpipeError):
    """A record on the store contradicts the commit protocol."""


class Overtaken(CommitError):
    """Somebody else published while this run was assembling; plan again."""

    exit_code = 4
    retry = True


class EncodeError(EmbedpipeError):
    """The encoder failed, or gave vectors of the wrong shape or count."""

    exit_code = 4


class ParityError(EncodeError):
    """Even in float32 the vectors differ from sentence-transformers' own by more than the gate allows."""

    exit_code = 3


class IncompleteError(EmbedpipeError):
    """The run stopped with work left. Everything committed stays; running again goes on from there."""

    exit_code = 4


class QuarantineError(EmbedpipeError):
    """More rows were quarantined, or left in units that failed, than `output.max_rejected_share` allows."""

    exit_code = 5


class VerificationError(EmbedpipeError):
    """What is stored does not match its records: something outside has changed it."""

    exit_code = 6
