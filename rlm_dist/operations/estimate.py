"""Estimates the size of a batch and the least that it will use, before anything is enqueued.

Tokens are estimated from characters. The floor is one turn of the root model for each job: its prompts, and
an empty reply. How often a model then reads a context is the model's own choice; for comparison, the estimate
also says what it would take if the sub model read each job's context once. Of a job with samples, all count.
"""

from collections import Counter
from collections.abc import Iterable

from rlm_dist.client.batch_item import BatchItem
from rlm_dist.client.chat_request import Reading
from rlm_dist.client.job_specs import options_of
from rlm_dist.client.options import JobOptions
from rlm_dist.contexts.encoding import reading_files
from rlm_dist.engine.prompts import opening
from rlm_dist.llm.endpoints import endpoints_of
from rlm_dist.llm.prices import Prices
from rlm_dist.schema import CHARS_PER_TOKEN, NANO, JobSpec, Role, Usage, Wire
from rlm_dist.settings import Settings

LONG_PROMPT_CHARS = 20_000
_SHOWN_IDS = 10


class Estimate(Wire):
    """``contexts`` and ``context_chars`` count equal contexts once; money is None if a price is unknown.

    ``readings`` counts the lines by the rule by which they are read. ``long_prompts`` counts the jobs whose
    first prompt to the root model is over 20,000 characters; ``long_prompt_ids`` has the first ten.
    """

    jobs: int
    readings: dict[Reading, int]
    long_prompts: int
    long_prompt_ids: tuple[str, ...]
    contexts: int
    context_chars: int
    floor_tokens: int
    floor_usd: float | None
    reading_tokens: int
    reading_usd: float | None


class _Sum:
    """Tokens and their price; one unknown price makes the sum unknown."""

    def __init__(self, prices: Prices, url: str) -> None:
        self._prices = prices
        self._url = url
        self._nanousd: int | None = 0
        self.tokens = 0

    def add(self, model: str, chars: int, tier: str | None) -> None:
        tokens = chars // CHARS_PER_TOKEN
        self.tokens += tokens
        price = self._prices.nanousd(model, Usage(input_tokens=tokens, tier=tier), self._url)
        self._nanousd = None if price is None or self._nanousd is None else self._nanousd + price

    @property
    def usd(self) -> float | None:
        return None if self._nanousd is None else self._nanousd / NANO


def estimate(items: Iterable[BatchItem], defaults: JobOptions, settings: Settings) -> Estimate:
    """Estimate a batch from its jobs; contexts in files and URLs are read."""
    prices = Prices(settings.prices)
    floor, reading = (_Sum(prices, endpoints_of(settings, role)[0].url) for role in (Role.ROOT, Role.SUB))
    defaults = defaults.over(options_of(settings))
    contexts: dict[str, int] = {}
    readings: Counter[Reading] = Counter()
    long_prompts = 0
    long_prompt_ids: list[str] = []

    # The workers' own file is not read here; the size of its prompt is taken to be that of ``coder``.
    family = "coder" if settings.prompt_family == "file" else settings.prompt_family
    ref_of_file = reading_files(lambda encoded: encoded.ref)
    for item in items:
        ref = item.encode().ref if item.context_file is None else ref_of_file(item.context_file)
        options = item.options.over(defaults)
        spec = JobSpec(id="", custom_id="", query=item.query, context=ref, prompts=family,
                       instructions=options.instructions or "")  # fmt: skip
        chars = sum(len(message.content) for message in opening(spec))
        samples = options.samples or 1
        floor.add(options.model or settings.model, samples * chars, options.parameters(Role.ROOT).asked_tier)
        tier = options.parameters(Role.SUB).asked_tier
        reading.add(options.sub_model or settings.sub_model, samples * ref.info.chars, tier)
        contexts[ref.sha256] = ref.info.chars
        readings[item.reading] += 1
        if chars > LONG_PROMPT_CHARS:
            long_prompts += 1
            long_prompt_ids += [item.custom_id][: _SHOWN_IDS - len(long_prompt_ids)]
    return Estimate(
        jobs=readings.total(),
        readings=readings,
        long_prompts=long_prompts,
        long_prompt_ids=tuple(long_prompt_ids),
        contexts=len(contexts),
        context_chars=sum(contexts.values()),
        floor_tokens=floor.tokens,
        floor_usd=floor.usd,
        reading_tokens=reading.tokens,
        reading_usd=reading.usd,
    )
