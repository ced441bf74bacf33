"""From a checked job to its spec: what the job asks for itself, then what is set for all."""

from typing import Any

from rlm_dist.client.batch_item import BatchItem
from rlm_dist.client.options import JobOptions
from rlm_dist.schema import ContextRef, JobSpec, Role
from rlm_dist.settings import Settings


class JobSpecFactory:
    """Makes the specs of jobs under the same settings; may be used by several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        none = JobOptions()
        # Most jobs of a batch give no options of their own, and to work these out takes longer than all else
        # here. Equal options would not do: in an extra body, 1 and True are equal.
        self._last = none, self._asked(none)

    def make(
        self,
        item: BatchItem,
        options: JobOptions,
        ref: ContextRef,
        *,
        job_id: str,
        batch_id: str | None = None,
        index: int = 0,
    ) -> JobSpec:
        """The spec of ``item`` with ``options``, which take the place of its own."""
        known, asked = self._last
        if options is not known:
            asked = self._asked(options)
            self._last = options, asked
        return JobSpec(
            id=job_id,
            custom_id=item.custom_id,
            batch_id=batch_id,
            index=index,
            query=item.query,
            context=ref,
            metadata=item.metadata,
            form=item.form,
            **asked,
        )

    def _asked(self, options: JobOptions) -> dict[str, Any]:
        known = self._settings
        return {
            "model": options.model or known.model,
            "sub_model": options.sub_model or known.sub_model,
            "prompts": known.prompts,
            "max_output_chars": known.max_output_chars,
            "early_final": known.early_final,
            "ask_at_limit": known.ask_at_limit,
            "on_divergence": options.on_divergence or "warn",
            "priority": options.priority or "normal",
            "limits": options.limits(),
            "cache": bool(options.cache),
            "root_parameters": options.parameters(Role.ROOT),
            "sub_parameters": options.parameters(Role.SUB),
            "broker_prefix": known.broker_prefix,
        }
