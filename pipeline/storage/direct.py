"""HTTP of the S3 client, without redirects.

aiobotocore leaves redirects to aiohttp, which follows them anywhere, with method, body and signature: whoever answers for a
store could have this machine ask its own metadata service. What S3 itself redirects, another region, botocore handles above.
"""

from typing import Any

from aiobotocore.httpsession import AIOHTTPSession


class DirectSession(AIOHTTPSession):  # type: ignore[misc]
    """aiobotocore's own, whose requests end where they are sent."""

    async def _get_session(self, proxy_url: str | None) -> "_Direct":
        return _Direct(await super()._get_session(proxy_url))


class _Direct:
    def __init__(self, session: Any) -> None:
        self._session = session

    async def request(self, *arguments: Any, **options: Any) -> Any:
        """An answer that redirects is the answer."""
        return await self._session.request(*arguments, **options, allow_redirects=False)
