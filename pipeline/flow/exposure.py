"""What would let others run code where a job runs: a Ray dashboard without a token, settings that make Ray unpickle data."""

import http.client
import ipaddress
import os
import re
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

from pipeline.errors import ConfigError
from pipeline.storage.environment import redact

ANSWER_S = 5.0
_OFF = frozenset({"", "0", "false", "no", "off"})
_UNPICKLING = re.compile(r"RAY_DATA_(AUTOLOAD_\w+|\w*UNSAFE\w*|ARROW_EXTENSION_SERIALIZATION_CLOUDPICKLE)")


def refuse_unpickling(environment: Mapping[str, str] = os.environ) -> None:
    """Raises ConfigError for settings with which Ray runs code that a Parquet or Arrow file carries in its metadata."""
    for name, value in sorted(environment.items()):
        if _UNPICKLING.fullmatch(name) and value.strip().lower() not in _OFF:
            raise ConfigError(f"{name} is set: with it Ray runs code that input files carry. Unset it, on all nodes")


def refuse_open_dashboard(url: str) -> None:
    """Raises ConfigError for a dashboard that the network reaches and that lets in whoever has no token.

    One on loopback is for this machine's own users. What doesn't answer can't be judged, and is not open from here.
    """
    if not _is_loopback(urlsplit(url).hostname or "") and _lets_in(url):
        raise ConfigError(
            f"{redact(url)}: the Ray dashboard is open: whoever reaches it can run code on the cluster and read what this job "
            "may read. Start the cluster with RAY_AUTH_MODE=token (infra/README.md), or bind its dashboard to 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _lets_in(url: str) -> bool:
    try:
        parts = urlsplit(url)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()  # else its user is taken for a host
        with _OPENER.open(f"{bare.rstrip('/')}/api/jobs/", timeout=ANSWER_S) as answer:
            return bool(answer.status == http.client.OK)
    except (OSError, http.client.HTTPException, ValueError):  # a refusal is an OSError too
        return False


class _Stay(urllib.request.HTTPRedirectHandler):
    """Doesn't follow: a sign-in page in front of the dashboard answers with 200."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)
