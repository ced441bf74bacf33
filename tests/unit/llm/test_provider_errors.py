"""What providers answer when they refuse a call, as they write it, and what becomes of it.

Each case has the response as it comes (status, body, headers), the kind of failure, words that must reach the
user and, if there is one, the delay that the endpoint asks for. ``source`` is where the body was seen; bodies
are cut to what matters. A case without a source is in the form that the server's own code or documents give.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm.failures import Secrets, error_in_answer, refusal
from rlm_dist.llm.wire import read_chat
from rlm_dist.schema import CallRequest, Message, Role

AUTH, QUOTA, RATE, INVALID = FailureKind.AUTH, FailureKind.QUOTA, FailureKind.RATE, FailureKind.INVALID
TOO_LONG, UNKNOWN_MODEL, TRANSIENT = (
    FailureKind.TOO_LONG,
    FailureKind.UNKNOWN_MODEL,
    FailureKind.TRANSIENT,
)
URL = "https://api.example.com/v1/chat/completions"
PROMPT = "a prompt that no error repeats, whatever happens"


class Case(NamedTuple):
    """One response, and what is made of it; a ``body`` that is no text is sent as JSON."""

    name: str
    status: int
    body: object
    kind: FailureKind
    words: str
    delay_s: float | None = None
    headers: Mapping[str, str] = {}
    source: str = ""


def error(message: str, **fields: object) -> dict[str, object]:
    """OpenAI's form of an error, which most providers use."""
    return {"error": {"message": message, **fields}}


OPENAI = [
    Case(
        "key",
        401,
        error(
            "Incorrect API key provided: sk-proj-****abcd. You can find your API key at https://platform.x",
            type="invalid_request_error",
            param=None,
            code="invalid_api_key",
        ),
        AUTH,
        "the key is missing or wrong (RLM_API_KEY, RLM_SUB_API_KEY): Incorrect API key provided: ***",
        source="https://platform.openai.com/docs/guides/error-codes",
    ),
    Case(
        "no money",
        429,
        error(
            "You exceeded your current quota, please check your plan and billing details.",
            type="insufficient_quota",
            param=None,
            code="insufficient_quota",
        ),
        QUOTA,
        "please check your plan and billing details",
        source="https://platform.openai.com/docs/guides/error-codes",
    ),
    Case(
        "account",
        401,
        error(
            "The OpenAI account associated with this API key has been deactivated.",
            code="account_deactivated",
        ),
        QUOTA,
        "has been deactivated",
    ),
    Case(
        "rate",
        429,
        error(
            "Rate limit reached for gpt-4.1 in organization org-x on tokens per min (TPM): Limit 30000, "
            "Used 28039, Requested 3906. Please try again in 3.89s. Visit https://platform.openai.com",
            type="tokens",
            param=None,
            code="rate_limit_exceeded",
        ),
        RATE,
        "Please try again in 3.89s",
        3.89,
        source="https://github.com/continuedev/continue/issues/10502",
    ),
    Case(
        "rate in ms",
        429,
        error("Rate limit reached for x. Please try again in 174ms. Visit https://y"),
        RATE,
        "in 174ms",
        0.174,
        source="https://github.com/continuedev/continue/issues/11472",
    ),
    Case(
        "rate in minutes",
        429,
        error("Rate limit reached for x. Please try again in 6m0s."),
        RATE,
        "in 6m0s",
        360.0,
    ),
    Case(
        "a header wins over the words",
        429,
        error("Please try again in 3.89s."),
        RATE,
        "in 3.89s",
        5.0,
        {"retry-after": "5"},
    ),
    Case(
        "never fits a minute",
        429,
        error(
            "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 342389. The input "
            "or output tokens must be reduced in order to run successfully.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
        TOO_LONG,
        "Limit 30000, Requested 342389",
        source="https://github.com/vanna-ai/vanna-flask/issues/11",
    ),
    Case(
        "too long",
        400,
        error(
            "This model's maximum context length is 4097 tokens. However, your messages resulted in 4294 "
            "tokens. Please reduce the length of the messages.",
            type="invalid_request_error",
            param="messages",
            code="context_length_exceeded",
        ),
        TOO_LONG,
        "the prompt has 4294 tokens, the model's window is 4097",
        source="https://github.com/chathub-dev/chathub/issues/126",
    ),
    Case(
        "model",
        404,
        error(
            "The model `gpt-99` does not exist or you do not have access to it.",
            type="invalid_request_error",
            param=None,
            code="model_not_found",
        ),
        UNKNOWN_MODEL,
        "does not exist or you do not have access to it",
    ),
    Case(
        "model of another project",
        403,
        error(
            "Project `proj_x` does not have access to model `gpt-4o`",
            type="invalid_request_error",
            code="model_not_found",
        ),
        UNKNOWN_MODEL,
        "does not have access to model `gpt-4o`",
    ),
    Case(
        "region",
        403,
        error("Country, region, or territory not supported", code="unsupported_country_region_territory"),
        AUTH,
        "this key is not allowed to do that: Country, region, or territory not supported",
    ),
]
AZURE = [
    Case(
        "rate",
        429,
        {
            "error": {
                "code": "429",
                "message": "Requests to the ChatCompletions_Create Operation under Azure "
                "OpenAI API version 2023-05-15 have exceeded token rate limit of your current AIServices "
                "S0 pricing tier. Please retry after 7 seconds.",
            }
        },
        RATE,
        "Please retry after 7 seconds",
        7.0,
        source="https://github.com/jasonacox/TinyLLM/issues/17",
    ),
    Case(
        "deployment",
        404,
        {
            "error": {
                "code": "DeploymentNotFound",
                "message": "The API deployment for this resource does not exist.",
            }
        },
        UNKNOWN_MODEL,
        "The API deployment for this resource does not exist",
    ),
    Case(
        "route",
        404,
        {"error": {"code": "404", "message": "Resource not found"}},
        INVALID,
        "no such route; check the address (it usually ends in /v1): Resource not found",
        source="https://github.com/rusiaaman/chat.md/issues/2",
    ),
    Case(
        "key",
        401,
        {
            "statusCode": 401,
            "message": "Access denied due to invalid subscription key or wrong API endpoint.",
        },
        AUTH,
        "Access denied due to invalid subscription key",
    ),
    Case(
        "filter",
        400,
        error(
            "The response was filtered due to the prompt triggering Azure OpenAI's content management "
            "policy.",
            code="content_filter",
            status=400,
        ),
        INVALID,
        "content management policy",
    ),
    Case("dependency", 424, error("Failed dependency"), TRANSIENT, "Failed dependency"),
]
ANTHROPIC = [
    Case(
        "no money",
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "Your credit balance is too "
                "low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
            },
        },
        QUOTA,
        "Your credit balance is too low",
        source="https://github.com/anthropics/claude-code/issues/66314",
    ),
    Case(
        "rate",
        429,
        error(
            "This request would exceed the rate limit for your organization of 20,000 input tokens per "
            "minute. Please reduce the prompt length or the maximum tokens requested, or try again later.",
            code="rate_limit_error",
            type="invalid_request_error",
            param=None,
        ),
        RATE,
        "20,000 input tokens per minute",
        12.0,
        {"retry-after": "12"},
        source="https://github.com/FoundationAgents/OpenManus/issues/746",
    ),
    Case(
        "overloaded",
        529,
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        RATE,
        "Overloaded",
        source="https://docs.anthropic.com/en/api/errors",
    ),
    Case(
        "too long",
        400,
        error("prompt is too long: 210000 tokens > 200000 maximum", code="invalid_request_error"),
        TOO_LONG,
        "the prompt has 210000 tokens, the model's window is 200000",
    ),
    Case(
        "too many bytes",
        413,
        {
            "type": "error",
            "error": {"type": "request_too_large", "message": "Request exceeds the maximum size"},
        },
        TOO_LONG,
        "Request exceeds the maximum size",
        source="https://docs.anthropic.com/en/api/errors",
    ),
    Case(
        "model",
        404,
        {"type": "error", "error": {"type": "not_found_error", "message": "model: claude-9"}},
        UNKNOWN_MODEL,
        "model: claude-9",
    ),
    Case(
        "key",
        401,
        error("invalid x-api-key", code="authentication_error", type="invalid_request_error"),
        AUTH,
        "invalid x-api-key",
    ),
]
GEMINI = [
    Case(
        "key",
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "API key not valid. Please pass a valid API key.",
                    "status": "INVALID_ARGUMENT",
                    "details": [
                        {
                            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                            "reason": "API_KEY_INVALID",
                            "domain": "googleapis.com",
                        },
                        {
                            "@type": "type.googleapis.com/google.rpc.DebugInfo",
                            "detail": "Invalid API key: AIzaWrong",
                        },
                    ],
                }
            }
        ],
        AUTH,
        "the key is missing or wrong (RLM_API_KEY, RLM_SUB_API_KEY): API key not valid. Please pass",
        source="https://github.com/google/timesketch/pull/3703",
    ),
    Case(
        "rate",
        429,
        [
            {
                "error": {
                    "code": 429,
                    "message": "You exceeded your current quota, please check your plan and "
                    "billing details. Quota exceeded for metric: generate_content_free_tier_requests, limit: "
                    "15\nPlease retry in 34.074824224s.",
                    "status": "RESOURCE_EXHAUSTED",
                    "details": [
                        {
                            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                            "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}],
                        },
                        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"},
                    ],
                }
            }
        ],
        RATE,
        "limit: 15",
        34.0,
        source="https://ai.google.dev/gemini-api/docs/troubleshooting",
    ),
    Case(
        "day",
        429,
        [
            {
                "error": {
                    "code": 429,
                    "message": "You exceeded your current quota",
                    "status": "RESOURCE_EXHAUSTED",
                    "details": [
                        {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
                    ],
                }
            }
        ],
        QUOTA,
        "You exceeded your current quota",
    ),
    Case(
        "rate without details",
        429,
        [
            {
                "error": {
                    "code": 429,
                    "message": "Resource has been exhausted (e.g. check quota).",
                    "status": "RESOURCE_EXHAUSTED",
                }
            }
        ],
        RATE,
        "Resource has been exhausted",
        source="https://github.com/n4ze3m/page-assist/issues/406",
    ),
    Case(
        "too long",
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "The input token count (1091639) exceeds the maximum number of "
                    "tokens allowed (1048576).",
                    "status": "INVALID_ARGUMENT",
                }
            }
        ],
        TOO_LONG,
        "the prompt has 1091639 tokens, the model's window is 1048576",
        source="https://github.com/google-gemini/gemini-cli/issues/5807",
    ),
    Case(
        "too long, in JSON in a text",
        400,
        {
            "error": {
                "message": json.dumps(
                    error(
                        "The input token count exceeds the maximum number of tokens allowed 1048576.",
                        code=400,
                        status="INVALID_ARGUMENT",
                    )
                ),
                "code": 400,
                "status": "Bad Request",
            }
        },
        TOO_LONG,
        "The input token count exceeds the maximum number of tokens allowed 1048576",
        source="https://github.com/google-gemini/gemini-cli/issues/15184",
    ),
    Case(
        "model",
        404,
        [
            {
                "error": {
                    "code": 404,
                    "message": "models/gemini-0 is not found for API version v1main, or is not "
                    "supported for generateContent.",
                    "status": "NOT_FOUND",
                }
            }
        ],
        UNKNOWN_MODEL,
        "models/gemini-0 is not found",
    ),
    Case(
        "region",
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "User location is not supported for the API use.",
                    "status": "FAILED_PRECONDITION",
                }
            }
        ],
        AUTH,
        "User location is not supported",
    ),
    Case(
        "billing",
        403,
        [
            {
                "error": {
                    "code": 403,
                    "message": "This API method requires billing to be enabled.",
                    "status": "PERMISSION_DENIED",
                    "details": [{"reason": "BILLING_DISABLED"}],
                }
            }
        ],
        QUOTA,
        "requires billing to be enabled",
    ),
]
MISTRAL = [
    Case(
        "key",
        401,
        {"detail": "Unauthorized"},
        AUTH,
        "RLM_SUB_API_KEY): Unauthorized",
        source="https://github.com/agent0ai/agent-zero/issues/539",
    ),
    Case(
        "another key",
        401,
        {"message": "Unauthorized", "request_id": "933f"},
        AUTH,
        ": Unauthorized",
        source="https://github.com/coolcline/CoolCline/issues/36",
    ),
    Case(
        "a field",
        422,
        {
            "object": "error",
            "message": {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "top_x"],
                        "msg": "Extra inputs are not permitted",
                        "input": "what was sent",
                    }
                ]
            },
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        },
        INVALID,
        "body.top_x: Extra inputs are not permitted",
        source="https://github.com/editor-code-assistant/eca/issues/231",
    ),
    Case(
        "model",
        400,
        {
            "object": "error",
            "message": "Invalid model: mistral-9",
            "type": "invalid_model",
            "param": None,
            "code": "1500",
        },
        UNKNOWN_MODEL,
        "Invalid model: mistral-9",
    ),
    Case(
        "too long",
        400,
        {
            "object": "error",
            "message": "Prompt contains 65673 tokens and 0 draft tokens, too large for model "
            "with 32768 maximum context length",
            "type": "invalid_request_prompt",
            "code": "3051",
        },
        TOO_LONG,
        "the prompt has 65673 tokens, the model's window is 32768",
    ),
    Case("rate", 429, {"message": "Requests rate limit exceeded"}, RATE, "Requests rate limit exceeded"),
]
GROQ = [
    Case(
        "never fits a minute",
        413,
        error(
            "Request too large for model `llama-3.3-70b-versatile` in organization `org_x` service tier "
            "`on_demand` on tokens per minute (TPM): Limit 6000, Requested 14810, please reduce your message "
            "size and try again.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
        TOO_LONG,
        "the request is larger than the endpoint allows in a minute: Request too large for model",
        source="https://github.com/ITSpecialist111/ai_automation_suggester/issues/61",
    ),
    Case(
        "rate",
        429,
        error(
            "Rate limit reached for model `x` on tokens per minute (TPM): Limit 6000, Used 5034, Requested "
            "1443. Please try again in 4.77s. Need more tokens? Upgrade to Dev Tier today at "
            "https://console.groq.com/settings/billing",
            type="tokens",
            code="rate_limit_exceeded",
        ),
        RATE,
        "Please try again in 4.77s",
        4.77,
        source="https://github.com/elizaOS/eliza/issues/4040",
    ),
    Case(
        "flex",
        498,
        error("flex tier capacity exceeded", code="capacity_exceeded"),
        RATE,
        "flex tier",
        source="https://console.groq.com/docs/flex-processing",
    ),
    Case(
        "too long",
        400,
        error(
            "Please reduce the length of the messages or completion.",
            type="invalid_request_error",
            param="messages",
            code="context_length_exceeded",
        ),
        TOO_LONG,
        "Please reduce the length of the messages",
        source="https://github.com/thepersonalaicompany/amurex-backend/issues/51",
    ),
    Case(
        "model gone",
        400,
        error(
            "The model `llama2-70b-4096` has been decommissioned and is no longer supported.",
            code="model_decommissioned",
        ),
        UNKNOWN_MODEL,
        "has been decommissioned",
    ),
]
DEEPSEEK = [
    Case(
        "no money",
        402,
        error("Insufficient Balance", type="unknown_error", param=None, code="invalid_request_error"),
        QUOTA,
        "Insufficient Balance",
        source="https://github.com/Aider-AI/aider/issues/4851",
    ),
    Case(
        "no money, by another way",
        400,
        error("Insufficient Balance", type="unknown_error", param=None, code="invalid_request_error"),
        QUOTA,
        "Insufficient Balance",
        source="https://github.com/Aider-AI/aider/issues/4851",
    ),
    Case(
        "key",
        401,
        error(
            "Authentication Fails, Your api key: ****wxyz is invalid",
            type="authentication_error",
            code="invalid_request_error",
        ),
        AUTH,
        "Authentication Fails, Your api key: *** is invalid",
    ),
    Case("model", 400, error("Model Not Exist", code="invalid_request_error"), UNKNOWN_MODEL, "Not Exist"),
    Case("busy", 503, error("Service is too busy."), TRANSIENT, "Service is too busy"),
]
OPENROUTER = [
    Case(
        "the provider's words",
        429,
        error(
            "Provider returned error",
            code=429,
            metadata={
                "raw": "z-ai/glm-5.3-flash is temporarily rate-limited upstream. Please retry shortly.",
                "provider_name": "BaseTen",
                "limit_source": "upstream_provider_shared_pool",
            },
        ),
        RATE,
        "Provider returned error: z-ai/glm-5.3-flash is temporarily rate-limited upstream",
        source="https://github.com/open-webui/computer/issues/293",
    ),
    Case(
        "the provider's JSON",
        400,
        error(
            "Provider returned error",
            code=400,
            metadata={
                "raw": json.dumps(error("Model 'kimi-k2.6' supports at most 1 image per prompt.")),
                "provider_name": "Crucible",
            },
        )
        | {"user_id": "user_x"},
        INVALID,
        "Provider returned error: Model 'kimi-k2.6' supports at most 1 image per prompt.",
        source="https://github.com/diegosouzapw/OmniRoute/issues/3044",
    ),
    Case(
        "no money",
        402,
        error(
            "This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens, but "
            "can only afford 1200.",
            code=402,
        ),
        QUOTA,
        "requires more credits",
        source="https://github.com/can1357/oh-my-pi/issues/9569",
    ),
    Case(
        "money held for calls in flight",
        402,
        error(
            "Budget reserved by requests in flight",
            code=402,
            metadata={"limit_source": "openrouter_in_flight_budget"},
        ),
        RATE,
        "in flight",
        3.0,
        {"retry-after": "3"},
        source="https://openrouter.ai/docs/projects/docs/api_reference/errors-and-debugging",
    ),
    Case(
        "free models",
        429,
        error(
            "Rate limit exceeded: free-models-per-min.",
            code=429,
            metadata={
                "headers": {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9"}
            },
        ),
        RATE,
        "free-models-per-min",
        9.0,
    ),
    Case(
        "moderation",
        403,
        error(
            'openai/x requires moderation. Your input was flagged for "violence". No credits were charged.',
            code=403,
            metadata={"reasons": ["violence"], "flagged_input": "some of the prompt"},
        ),
        INVALID,
        "Your input was flagged",
        source="https://openrouter.ai/docs/errors",
    ),
    Case(
        "model", 400, error("foo/bar is not a valid model ID", code=400), UNKNOWN_MODEL, "not a valid model"
    ),
    Case("no provider", 404, error("No endpoints found for foo/bar.", code=404), UNKNOWN_MODEL, "foo/bar"),
    Case("down", 502, error("Provider returned error", code=502), TRANSIENT, "Provider returned error"),
]
TOGETHER = [
    Case(
        "model",
        404,
        error(
            "Unable to access model x/y. Please visit https://api.together.ai/models",
            type="invalid_request_error",
            param=None,
            code="model_not_available",
        ),
        UNKNOWN_MODEL,
        "Unable to access model x/y",
    ),
    Case(
        "too long",
        422,
        error(
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 65537. Given: 79993 "
            "`inputs` tokens and 1024 `max_new_tokens`",
            type="invalid_request_error",
        ),
        TOO_LONG,
        "the prompt has 79993 tokens, the model's window is 65537",
        source="https://github.com/bytedance/UI-TARS-desktop/issues/626",
    ),
]
FIREWORKS = [
    Case(
        "model",
        404,
        {
            "message": "Model not found, inaccessible, and/or not deployed",
            "param": "model",
            "code": "NOT_FOUND",
            "type": "error",
        },
        UNKNOWN_MODEL,
        "Model not found, inaccessible",
        source="https://github.com/warpdotdev/warp/issues/15107",
    ),
    Case(
        "no money",
        412,
        error(
            "Account x is suspended, possibly due to reaching the monthly spending limit or failure to pay "
            "past invoices."
        ),
        QUOTA,
        "monthly spending limit",
    ),
]
XAI = [
    Case(
        "key",
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "Incorrect API key provided: ba***na. You "
            "can obtain an API key from https://console.x.ai.",
        },
        AUTH,
        "the key is missing or wrong (RLM_API_KEY, RLM_SUB_API_KEY): Incorrect API key provided: *** You",
        source="https://github.com/i-am-bee/beeai-framework/issues/447",
    ),
    Case(
        "no money",
        429,
        {
            "code": "Some resource has been exhausted",
            "error": "Your team 16f2 has either used all available "
            "credits or reached its monthly spending limit.",
        },
        QUOTA,
        "used all available credits",
        source="https://github.com/continuedev/continue/issues/10373",
    ),
    Case(
        "no money, by another status",
        403,
        '"Your team 8c26 has either used all available credits or reached its monthly spending limit."',
        QUOTA,
        "monthly spending limit",
        source="https://github.com/warpdotdev/warp/issues/14863",
    ),
    Case(
        "model",
        404,
        {
            "code": "Some requested entity was not found",
            "error": "The model grok-9 does not exist or your team x does not have access to it.",
        },
        UNKNOWN_MODEL,
        "The model grok-9 does not exist",
    ),
]
CEREBRAS = [
    Case(
        "too long",
        400,
        {
            "message": "Please reduce the length of the messages or completion. Current length is 42328 while "
            "limit is 40000",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        },
        TOO_LONG,
        "the prompt has 42328 tokens, the model's window is 40000",
        source="https://github.com/cline/cline/issues/5140",
    ),
    Case(
        "rate",
        429,
        {
            "message": "Requests per minute limit exceeded - too many requests sent.",
            "type": "too_many_requests_error",
            "param": "quota",
            "code": "request_quota_exceeded",
        },
        RATE,
        "too many requests sent",
    ),
    Case(
        "key",
        401,
        {"message": "Wrong API Key", "type": "invalid_request_error", "code": "wrong_api_key"},
        AUTH,
        "Wrong API Key",
    ),
]
VLLM = [
    Case(
        "model",
        404,
        {
            "object": "error",
            "message": "The model `x` does not exist.",
            "type": "NotFoundError",
            "param": None,
            "code": 404,
        },
        UNKNOWN_MODEL,
        "The model `x` does not exist",
    ),
    Case(
        "too long",
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 8192 tokens. However, you "
            "requested 9100 tokens (9000 in the messages, 100 in the completion).",
            "type": "BadRequestError",
            "code": 400,
        },
        TOO_LONG,
        "the prompt has 9000 tokens, the model's window is 8192",
    ),
    Case(
        "too high a limit",
        400,
        error(
            "'max_tokens' or 'max_completion_tokens' is too large: 9000. This model's maximum context length "
            "is 8192 tokens and your request has 100 input tokens (9000 > 8192 - 100).",
            type="BadRequestError",
            code=400,
        ),
        INVALID,
        "is too large: 9000",
    ),
    Case("key", 401, {"error": "Unauthorized"}, AUTH, "RLM_SUB_API_KEY): Unauthorized"),
    Case("starting", 500, "Internal Server Error", TRANSIENT, "Internal Server Error"),
]
LLAMA_CPP = [
    Case(
        "too long",
        400,
        {
            "error": {
                "code": 400,
                "message": "request (9000 tokens) exceeds the available context size (512 "
                "tokens), try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9000,
                "n_ctx": 512,
            }
        },
        TOO_LONG,
        "the prompt has 9000 tokens, the model's window is 512",
    ),
    Case("loading", 503, error("Loading model", type="unavailable_error", code=503), TRANSIENT, "Loading"),
    Case(
        "key", 401, error("Invalid API Key", type="authentication_error", code=401), AUTH, "Invalid API Key"
    ),
]
OLLAMA = [
    Case("model", 404, {"error": "model 'x' not found, try pulling it first"}, UNKNOWN_MODEL, "try pulling"),
    Case(
        "model, by OpenAI's route",
        404,
        error("model 'x' not found", type="not_found_error", param=None, code=None),
        UNKNOWN_MODEL,
        "model 'x' not found",
    ),
    Case(
        "busy",
        503,
        {"error": "server busy, please try again. maximum pending requests exceeded"},
        TRANSIENT,
        "server busy",
    ),
]
LITELLM = [
    Case(
        "budget",
        400,
        error(
            "Budget has been exceeded! Current cost: 26.075, Max budget: 0.25",
            type="budget_exceeded",
            param=None,
            code="400",
        ),
        QUOTA,
        "Budget has been exceeded",
        source="https://github.com/BerriAI/litellm/issues/22726",
    ),
    Case(
        "key",
        401,
        error(
            "Authentication Error, Invalid proxy server token passed. Received API Key = sk-...wxyz, Key "
            "Hash (Token) =88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b.",
            type="token_not_found_in_db",
            param="key",
            code="401",
        ),
        AUTH,
        "Received API Key = ***, Key Hash (Token) =***.",
    ),
    Case(
        "model of others",
        401,
        error(
            "key not allowed to access model. This key can only access models=['a']",
            type="key_model_access_denied",
            param="model",
            code="401",
        ),
        UNKNOWN_MODEL,
        "key not allowed to access model",
    ),
    Case(
        "rate behind it",
        429,
        error(
            "litellm.RateLimitError: AzureException RateLimitError - Error code: 429 - {'error': {'code': "
            "'429', 'message': 'Please retry after 4 seconds. '}}",
            type="throttling_error",
            code="429",
        ),
        RATE,
        "AzureException",
        4.0,
        source="https://github.com/jasonacox/TinyLLM/issues/17",
    ),
]
PROXIES = [
    Case(
        "nginx",
        413,
        "<html><head><title>413 Request Entity Too Large</title></head></html>",
        TOO_LONG,
        "'413 Request Entity Too Large'",
    ),
    Case(
        "a gateway",
        502,
        "<!DOCTYPE html><html><title>Bad gateway</title></html>",
        TRANSIENT,
        "an HTML page, 'Bad gateway'",
    ),
    Case(
        "envoy",
        503,
        "upstream connect error or disconnect/reset before headers",
        TRANSIENT,
        "upstream connect error",
    ),
    Case(
        "a field",
        422,
        {
            "detail": [
                {"loc": ["body", "messages", 0], "msg": "field required", "type": "missing", "input": PROMPT}
            ]
        },
        INVALID,
        "body.messages.0: field required",
    ),
    Case("a delay", 429, {"detail": "slow down", "retry_after": 2.5}, RATE, "slow down", 2.5),
    Case("a delay inside", 429, error("slow down", retry_after_ms=1500), RATE, "slow down", 1.5),
    Case("nothing at all", 400, "", INVALID, "answered HTTP 400"),
    Case("other JSON", 400, "[1, null, true, {}]", INVALID, "answered HTTP 400"),
]
# With HTTP 200: the error says in its body what the status would have been.
ANSWERS = [
    Case("no money", 200, error("Insufficient credits", code=402) | {"user_id": "x"}, QUOTA,
         "answered HTTP 200 with error 402: Insufficient credits", source="https://openrouter.ai/docs/errors"),
    Case("rate", 200, {"choices": None, **error("slow down, try again in 3s", code=429)}, RATE,
         "with error 429: slow down", 3.0),
    Case("bad request", 200, error("temperature must be below 2", code=400), INVALID, "must be below 2"),
    Case("provider down", 200, error("Provider returned error", code=502, metadata={"raw": "no GPU left"}),
         TRANSIENT, "with error 502: Provider returned error: no GPU left"),
    Case("in the choice", 200,
         {"choices": [{"error": {"code": 429, "message": "too fast"}, "finish_reason": "error"}]},
         RATE, "too fast"),
    Case("in the choice, beside an empty message", 200,
         {"choices": [{"error": {"code": 402, "message": "no credits"}, "message": {"content": ""}}]},
         QUOTA, "no credits"),
    Case("a code in words", 200, error("no money", code="insufficient_quota"), QUOTA, "no money"),
    Case("a key", 200, {"code": "401", "message": "no such key"}, AUTH, "no such key"),
    Case("too long", 200, error("This model's maximum context length is 10 tokens, you sent 90"), TOO_LONG,
         "the prompt has 90 tokens, the model's window is 10"),
    Case("a wrong request", 200, error("bad", type="invalid_request_error"), INVALID, "with an error: bad"),
    Case("no code", 200, {"error": "upstream hiccup"}, TRANSIENT, "with an error: upstream hiccup"),
    Case("detail", 200, {"detail": "overloaded", "code": 529}, RATE, "overloaded"),
]  # fmt: skip


def cases(**providers: list[Case]) -> list[object]:
    """The cases of all providers, named by provider."""
    return [
        pytest.param(case, id=f"{provider}: {case.name}")
        for provider, listed in providers.items()
        for case in listed
    ]


def check(case: Case, failure: CallError) -> None:
    """Compare ``failure`` with what the case expects."""
    assert failure.kind is case.kind
    assert case.words in failure.message
    assert failure.retry_after_s == (None if case.delay_s is None else pytest.approx(case.delay_s))
    assert PROMPT not in failure.message


@pytest.mark.parametrize(
    "case",
    cases(
        OpenAI=OPENAI, Azure=AZURE, Anthropic=ANTHROPIC, Gemini=GEMINI, Mistral=MISTRAL, Groq=GROQ,
        DeepSeek=DEEPSEEK, OpenRouter=OPENROUTER, Together=TOGETHER, Fireworks=FIREWORKS, xAI=XAI,
        Cerebras=CEREBRAS, vLLM=VLLM, llama_cpp=LLAMA_CPP, Ollama=OLLAMA, LiteLLM=LITELLM, proxies=PROXIES,
    ),
)  # fmt: skip
def test_a_refusal_is_sorted_and_quoted(case: Case) -> None:
    body = case.body if isinstance(case.body, str) else json.dumps(case.body)
    check(case, refusal(case.status, case.headers, body, URL, Secrets((), (PROMPT,))))


@pytest.mark.parametrize("case", cases(HTTP_200=ANSWERS))
def test_an_error_in_place_of_an_answer_is_sorted_as_its_status_would_be(case: Case) -> None:
    """It is not taken for a malformed answer, which would be asked for and paid again."""
    request = CallRequest(role=Role.SUB, model="m", messages=(Message(role="user", content=PROMPT),))
    attempt = read_chat(json.dumps(case.body), request, "m")
    assert attempt.completion is None
    check(case, error_in_answer(attempt.error_body, URL, Secrets((), (PROMPT,))))


def test_a_deep_body_is_no_harm() -> None:
    assert refusal(400, {}, "[" * 100_000, URL, Secrets(())).kind is INVALID
    assert refusal(400, {}, "[" * 900 + "]" * 900, URL, Secrets(())).kind is INVALID
