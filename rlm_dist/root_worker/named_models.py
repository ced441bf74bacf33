"""Which models the code of a job may name in its sub-calls.

A context can carry instructions, and 10,000 calls to the dearest model of an endpoint are one line of code.
So a name counts only if the job has it: as its sub model, its root model, or one that the user listed. Each
name costs memory in the workers and a line in the ledger, so a job may use at most ``MOST_NAMES``.
"""

from collections.abc import Callable

from rlm_dist.errors import ModelNotAllowed
from rlm_dist.schema import JobSpec, Role

_AUTO = "auto"
MOST_NAMES = 32


class NamedModels:
    """The models that the code of one job may name, as they are written; ``auto`` is the sub model."""

    def __init__(self, spec: JobSpec, resolve: Callable[[Role, str], str]) -> None:
        """``resolve`` returns the model that serves a role's calls for a name."""
        self._spec = spec
        self._resolve = resolve
        self._named: set[str] = set()

    def model(self, name: str | None) -> str:
        """The model to ask if code names this one, or None.

        Raises:
            ModelNotAllowed: if it may not be named, or if code has named too many others.
        """
        asked = self._allowed(name)
        if asked not in self._named and len(self._named) >= MOST_NAMES:
            raise ModelNotAllowed(asked, tuple(sorted(self._named)))
        self._named.add(asked)
        return asked

    def _allowed(self, name: str | None) -> str:
        spec = self._spec
        if name is None or (name == _AUTO and spec.sub_models is not None):
            return spec.sub_model
        if spec.sub_models is None or name in (spec.model, spec.sub_model, *spec.sub_models):
            return name
        own = {self._resolve(Role.ROOT, spec.model), self._resolve(Role.SUB, spec.sub_model)}
        if name not in own:
            raise ModelNotAllowed(name, tuple(sorted(own.union(spec.sub_models))))
        return name
