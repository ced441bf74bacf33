"""Makes the spec of a checked job from its own options and, for those it does not set, the settings."""

from collections.abc import Mapping
from typing import Any

from rlm_dist.client.batch_item import BatchItem
from rlm_dist.client.options import JobOptions
from rlm_dist.schema import ContextRef, JobSpec, Role, SessionPlace
from rlm_dist.settings import Settings

_OF_ANSWERS = ("response_schema", "quote_check", "validator", "judge", "judge_model")


def options_of(settings: Settings) -> JobOptions:
    """The values of the settings that have the name of an option, for jobs that do not set it."""
    # The settings max_depth and tools are what an installation serves, and no defaults of jobs.
    names = (JobOptions.model_fields.keys() & Settings.model_fields.keys()) - {"max_depth", "tools"}
    return JobOptions.model_validate({name: getattr(settings, name) for name in names})


class JobSpecFactory:
    """Makes the specs of jobs that share settings; may be used by several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        no_options = JobOptions()
        # Most jobs of a batch share one options object, and computing these fields takes longer than all else
        # here, so the last ones are cached. Objects are compared by identity: equal options may differ, as 1
        # and True are equal in an extra body.
        self._last = no_options, self._fields(no_options)

    def make(
        self,
        item: BatchItem,
        options: JobOptions,
        ref: ContextRef,
        *,
        job_id: str,
        batch_id: str | None = None,
        index: int = 0,
        tags: Mapping[str, str] | None = None,
        session: SessionPlace | None = None,
    ) -> JobSpec:
        """The spec of ``item`` with ``options``, which replace its own."""
        last_options, fields = self._last
        if options is not last_options:
            fields = self._fields(options)
            self._last = options, fields
        return JobSpec(
            id=job_id,
            custom_id=item.custom_id,
            batch_id=batch_id,
            index=index,
            query=item.query,
            context=ref,
            metadata=item.metadata,
            form=item.form,
            tags=dict(tags or {}),
            session=session,
            **fields,
        )

    def _fields(self, options: JobOptions) -> dict[str, Any]:
        settings = self._settings
        return {
            "model": options.model or settings.model,
            "sub_model": options.sub_model or settings.sub_model,
            "sub_models": options.sub_models or (),
            "child_models": options.child_models or (),
            "tools": options.tools or (),
            "prompts": settings.prompt_family,
            "max_output_chars": settings.max_output_chars,
            "early_final": settings.early_final,
            "ask_at_limit": settings.ask_at_limit,
            "on_divergence": options.on_divergence or "warn",
            "priority": options.priority or "normal",
            "limits": options.limits(),
            "cache": bool(options.cache),
            "root_parameters": options.parameters(Role.ROOT),
            "sub_parameters": options.parameters(Role.SUB),
            "samples": options.samples or 1,
            "reduce": options.reduce or "majority",
            "broker_prefix": settings.broker_prefix,
            **{name: getattr(options, name) for name in _OF_ANSWERS},
            "instructions": options.instructions or "",
            "compaction": options.compaction or "cut",
            "program": options.program or "",
        }
