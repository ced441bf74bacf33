"""What is known here of the root model: its name at the endpoint and its window."""

from typing import Literal

from rlm_dist.errors import CallError, Unreachable
from rlm_dist.llm import check_endpoint
from rlm_dist.llm.endpoints import endpoints_of
from rlm_dist.llm.prices import published_window
from rlm_dist.schema import Role
from rlm_dist.schema.base import Wire
from rlm_dist.settings import Settings

AUTO = "auto"
ASSUMED_WINDOW = 128_000
SIMULATED = "simulated"


class RootModel(Wire):
    """The root model's name, ``auto`` if its endpoint cannot be asked from here, and its window in tokens."""

    name: str
    window: int
    window_from: Literal["option", "setting", "published", "assumed"]


def find_root_model(settings: Settings, model: str | None, window: int | None) -> RootModel:
    """The root model of jobs with this option ``model``; ``window`` is the user's word on its window."""
    name = model or settings.model
    endpoint = endpoints_of(settings, Role.ROOT)[0]
    if name == AUTO:
        name = endpoint.named(AUTO)
    if name == AUTO:
        try:
            name = next(iter(check_endpoint(endpoint)), AUTO)
        except (Unreachable, CallError):  # workers elsewhere may have another endpoint
            name = AUTO
    if window is not None:
        return RootModel(name=name, window=window, window_from="option")
    if name in settings.windows:
        return RootModel(name=name, window=settings.windows[name], window_from="setting")
    published = published_window(name, endpoint.url)
    if published:
        return RootModel(name=name, window=published, window_from="published")
    return RootModel(name=name, window=ASSUMED_WINDOW, window_from="assumed")
