"""Finds the models of a batch whose price is not known, though a limit on money needs it.

Each call of such a job would be refused (``UnknownPrice``), so the batch is refused before it is enqueued.
The prices and endpoints are those of this process; workers may have others.
"""

from rlm_dist.client.batch_item import BatchItem
from rlm_dist.client.job_specs import options_of
from rlm_dist.client.options import JobOptions
from rlm_dist.errors import InputError
from rlm_dist.llm.endpoints import endpoints_of
from rlm_dist.llm.prices import Prices, is_provider
from rlm_dist.one_line import one_line
from rlm_dist.schema import Role, Usage
from rlm_dist.settings import Settings

_SHOWN = 10
_WAY_OUT = (
    "a limit on money needs it: name it in the file RLM_PRICES, here and for the workers, or leave out the "
    "limits on money (max_usd, batch_max_usd)"
)


class UnknownPrices:
    """Is shown all jobs of a batch, and then checks the models that they name.

    ``defaults`` are the options of jobs that do not set their own; ``limited`` says whether the batch has a
    budget of money. What ``auto`` stands for is known to workers alone: without a file of prices, its price
    is unknown if the workers are on this machine and no provider has the address.
    """

    def __init__(self, settings: Settings, defaults: JobOptions, *, limited: bool) -> None:
        self._settings = settings
        self._defaults = defaults.over(options_of(settings))
        self._limited = limited
        self._named: dict[tuple[Role, str, str | None], None] = {}

    def see(self, item: BatchItem) -> None:
        """Note the models of one job, if its calls need a price."""
        options = item.options.over(self._defaults)
        if not self._limited and options.max_usd is None:
            return
        root_tier = options.parameters(Role.ROOT).asked_tier
        self._named[Role.ROOT, options.model or self._settings.model, root_tier] = None
        sub_tier = options.parameters(Role.SUB).asked_tier
        judges = (options.judge_model,) if options.judge and options.judge_model else ()
        for name in (options.sub_model or self._settings.sub_model, *(options.sub_models or ()), *judges):
            self._named[Role.SUB, name, sub_tier] = None

    def check(self) -> None:
        """Check the models that were seen.

        Raises:
            InputError: naming those whose price is not known.
            SettingsError: if the file of prices or of endpoints cannot be read.
        """
        if not self._named:
            return
        prices = Prices(self._settings.prices)
        unknown: dict[str, None] = {}
        for role, model, tier in self._named:
            for endpoint in endpoints_of(self._settings, role):
                name = endpoint.named(model)
                if name == "auto":
                    known = not self._none_is_known(endpoint.url)
                else:
                    known = prices.nanousd(name, Usage(input_tokens=1, tier=tier), endpoint.url) is not None
                if not known:
                    unknown[f"the price of model {name!r}{_of_tier(tier)} is not known"] = None
        if unknown:
            problems = list(map(one_line, unknown))
            more = [f"… and {len(problems) - _SHOWN} more models"] if len(problems) > _SHOWN else []
            raise InputError((*problems[:_SHOWN], *more, _WAY_OUT))

    def _none_is_known(self, url: str) -> bool:
        """Whether no model at this address can have a price."""
        return self._settings.prices is None and self._settings.redis_url is None and not is_provider(url)


def _of_tier(tier: str | None) -> str:
    return f" in the tier {tier!r}" if tier else ""
