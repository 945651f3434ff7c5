"""An embedded Ray whose object store is as small as Ray accepts one."""

from types import ModuleType

BYTES = 80 << 20


def _shrink(cluster: ModuleType) -> None:
    cluster.OBJECT_STORE_BYTES = BYTES  # type: ignore[attr-defined]


HOOKS = {"pipeline.flow.cluster": _shrink}
