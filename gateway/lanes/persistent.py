"""Writing with patience: what fails in passing is tried again, what is refused is found among its neighbours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from gateway.backend import Step
from gateway.errors import GatewayError, StoreError
from gateway.lanes.outcomes import concerns_one

__all__ = ["apart", "persistently"]

_T = TypeVar("_T")


async def persistently(attempt: Callable[[], Awaitable[_T]], seconds: float) -> _T:
    """Return what an attempt returns, trying again for a while where it fails in passing.

    Trying again is prepared only once something has failed: nearly every first attempt succeeds.

    Raises:
        StoreError: The last attempt's.
    """
    try:
        return await attempt()
    except StoreError as error:
        if not error.transient or seconds <= 0:
            raise

    async def again() -> _T:
        return await attempt()  # tenacity awaits only what is declared with `async def`

    attempts = AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, StoreError) and error.transient),
        stop=stop_after_delay(seconds),
        wait=wait_random_exponential(multiplier=0.02, max=0.5),
        reraise=True,
    )
    return await attempts(again)


async def apart(
    write: Callable[[Sequence[Step]], Awaitable[object]], steps: Sequence[Step]
) -> dict[int, GatewayError]:
    """Write steps; if the store refuses some for what they are, write the others without them.

    Returns:
        The errors of the refused steps, by index.

    Raises:
        StoreError: One that says nothing of single steps. Some of them may be written by then.
    """
    try:
        await write(steps)
    except GatewayError as error:
        if not concerns_one(error):
            raise
        if len(steps) == 1:
            return {0: error}
    else:
        return {}
    middle = len(steps) // 2
    refused = await apart(write, steps[:middle])
    for at, refusal in (await apart(write, steps[middle:])).items():
        refused[middle + at] = refusal
    return refused
