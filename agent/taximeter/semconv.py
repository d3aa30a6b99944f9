"""Every attribute and metric name that Taximeter writes or reads, in one place.

Dashboards, rules, the collector and the analysis import names from here, so a renamed
metric breaks a test and never silently empties a panel. Names come from the official
OpenTelemetry semantic conventions (stable HTTP and database; GenAI as of
semantic-conventions-genai 1.3) where they exist; ``taximeter.*`` is what no convention has.
This module imports nothing, so that every part can afford it.
"""

from typing import Final

# --- Resource -------------------------------------------------------------------------
SERVICE_NAME: Final = "service.name"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
SERVICE_VERSION: Final = "service.version"
TELEMETRY_DISTRO_NAME: Final = "telemetry.distro.name"
TELEMETRY_DISTRO_VERSION: Final = "telemetry.distro.version"
DISTRO_NAME: Final = "taximeter"

# --- HTTP (stable) --------------------------------------------------------------------
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
HTTP_SERVER_REQUEST_DURATION: Final = "http.server.request.duration"  # histogram, s
URL_PATH: Final = "url.path"
ERROR_TYPE: Final = "error.type"

# --- Database (stable) ----------------------------------------------------------------
DB_SYSTEM_NAME: Final = "db.system.name"
#: Values of it that are caches: asking them is no database call.
CACHE_SYSTEMS: Final = ("redis", "memcached")
DB_NAMESPACE: Final = "db.namespace"
DB_OPERATION_NAME: Final = "db.operation.name"
DB_OPERATION_BATCH_SIZE: Final = "db.operation.batch.size"
DB_QUERY_TEXT: Final = "db.query.text"
DB_QUERY_SUMMARY: Final = "db.query.summary"
DB_RESPONSE_RETURNED_ROWS: Final = "db.response.returned_rows"
DB_CLIENT_RESPONSE_RETURNED_ROWS: Final = "db.client.response.returned_rows"  # histogram, {row}
DB_CLIENT_OPERATION_DURATION: Final = "db.client.operation.duration"  # histogram, s
DB_CLIENT_CONNECTION_WAIT_TIME: Final = "db.client.connection.wait_time"  # histogram, s
DB_CLIENT_CONNECTION_POOL_NAME: Final = "db.client.connection.pool.name"

# --- GenAI ----------------------------------------------------------------------------
GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"  # chat, embeddings, ...
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"  # openai, anthropic, ...
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"  # includes cached tokens
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"  # includes reasoning tokens
GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"  # older name
GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
OPENAI_RESPONSE_SERVICE_TIER: Final = "openai.response.service_tier"
GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"  # s
GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105  (a label's name, not a secret)
GEN_AI_CLIENT_TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105  histogram, {token}
GEN_AI_CLIENT_OPERATION_DURATION: Final = "gen_ai.client.operation.duration"  # histogram, s
GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"

# The cost convention now being agreed (semantic-conventions-genai#287).
GEN_AI_USAGE_COST_AMOUNT: Final = "gen_ai.usage.cost.amount"  # double
GEN_AI_USAGE_COST_CURRENCY: Final = "gen_ai.usage.cost.currency"  # "USD"
GEN_AI_USAGE_COST_SOURCE: Final = "gen_ai.usage.cost.source"  # "local" | "provider"
GEN_AI_CLIENT_OPERATION_COST: Final = "gen_ai.client.operation.cost"  # histogram, {USD}

EMBEDDINGS: Final = "embeddings"  # value of gen_ai.operation.name

# --- Who and what for (allow-listed, bounded) -----------------------------------------
TENANT: Final = "taximeter.tenant"
FEATURE: Final = "taximeter.feature"
SEGMENT: Final = "taximeter.segment"  # of users: guest, vip, staff
FLAGS: Final = "taximeter.flags"  # active fix.* / fault.* flags, sorted, comma-separated

# --- Evidence without content (docs/evidence.md): keyed hashes, compact texts -----------
EVIDENCE_KEY: Final = "taximeter.evidence.key"  # id of the key of every hash on this span
EMBEDDING_INPUTS: Final = "taximeter.embedding.inputs"  # number of inputs of one call
EMBEDDING_INPUT_EXACT: Final = "taximeter.embedding.input.exact"  # a hash an input, in order
EMBEDDING_INPUT_NORMALISED: Final = "taximeter.embedding.input.normalised"
EMBEDDING_SIGNATURES: Final = "taximeter.embedding.signatures"  # 256 bits a returned vector
PROMPT_BLOCKS: Final = "taximeter.prompt.blocks"  # "s128:hash u40:hash": chain over the prompt
DB_PARAMETERS_HASH: Final = "taximeter.db.parameters.hash"  # of one call's parameters
DB_PARAMETERS_VALUES: Final = "taximeter.db.parameters.values"  # opt-in: hashes of each
DB_RESULT_VALUES: Final = "taximeter.db.result.values"  # opt-in: hashes of returned values
DB_WALKS: Final = "taximeter.db.walks"  # a parameter came out of the same statement's last answer
DB_TRANSACTION: Final = "taximeter.db.transaction"  # a number of this process, of a statement inside of one
CACHE_LOOKUPS: Final = "taximeter.cache.lookups"  # server span: "name=+hash,-hash/normalised"
CODE_FILE_PATH: Final = "code.file.path"  # the service's own code that made the call
CODE_LINE_NUMBER: Final = "code.line.number"
CODE_FUNCTION_NAME: Final = "code.function.name"
CODE_CALLERS: Final = "taximeter.code.callers"  # "file:line function < ...", innermost first

# --- The request account --------------------------------------------------------------
# On the request's server span and, under the same names, as metrics labelled by route.
# On a span every field is present (0 when nothing happened), save first_byte, which only
# a response that sent a body has.
REQUEST_DB_CALLS: Final = "taximeter.request.db.calls"  # statements sent by user code
REQUEST_DB_DURATION: Final = "taximeter.request.db.duration"  # s, summed over the calls
REQUEST_DB_REPEATED: Final = "taximeter.request.db.repeated"  # calls whose text was already sent
REQUEST_MODEL_CALLS: Final = "taximeter.request.model.calls"  # chat, responses, messages
REQUEST_MODEL_ATTEMPTS: Final = "taximeter.request.model.attempts"  # HTTP tries that had a connection
REQUEST_EMBEDDING_CALLS: Final = "taximeter.request.embedding.calls"
REQUEST_EMBEDDING_INPUTS: Final = "taximeter.request.embedding.inputs"  # texts, over the calls
REQUEST_EMBEDDING_DUPLICATES: Final = "taximeter.request.embedding.duplicates"  # asked for before
REQUEST_TOKENS_INPUT: Final = "taximeter.request.tokens.input"  # cached ones and embeddings included
REQUEST_TOKENS_OUTPUT: Final = "taximeter.request.tokens.output"
REQUEST_TOKENS_CACHED: Final = "taximeter.request.tokens.cached"  # the part of input read from cache
REQUEST_COST: Final = "taximeter.request.cost"  # USD
REQUEST_UNPRICED_CALLS: Final = "taximeter.request.unpriced.calls"  # their money is not in cost
REQUEST_CACHE_LOOKUPS: Final = "taximeter.request.cache.lookups"
REQUEST_CACHE_HITS: Final = "taximeter.request.cache.hits"
REQUEST_CACHE_REPEATS: Final = "taximeter.request.cache.repeats"  # metric only: the process knew the key
REQUEST_POOL_WAIT: Final = "taximeter.request.pool.wait"  # s, waiting for a free connection
REQUEST_FIRST_BYTE: Final = "taximeter.request.first_byte"  # s from request start
REQUEST_STREAMED: Final = "taximeter.request.streamed"  # bool on spans; counter as metric

# --- Money and health -----------------------------------------------------------------
COST_USD: Final = "taximeter.cost_usd"  # counter, unit {USD}; Prometheus: taximeter_cost_usd_total
UNPRICED_CALLS: Final = "taximeter.unpriced.calls"  # counter, {call}, by model
AGENT_ERRORS: Final = "taximeter.agent.errors"  # counter, {error}, by hook
AGENT_DROPPED_SPANS: Final = "taximeter.agent.dropped_spans"  # counter, {span}, by reason

# --- Tail sampling, written by the collector on every span it keeps --------------------
SAMPLING_POLICY: Final = "taximeter.sampling.policy"  # the policy that kept the trace
SAMPLING_ADJUSTED_COUNT: Final = "taximeter.sampling.adjusted_count"  # traces this one stands for
SAMPLING_KEPT: Final = "taximeter.sampling.kept"  # bool, in a dry run: what would have happened

# --- Money that the collector adds to spans that came without (outside the cost convention) ---
COLLECTOR_COST_AMOUNT: Final = "taximeter.cost.amount"  # double
COLLECTOR_COST_CURRENCY: Final = "taximeter.cost.currency"  # "USD"
COLLECTOR_COST_UNPRICED: Final = "taximeter.cost.unpriced"  # why there is no amount

# --- `taximeter verify` ----------------------------------------------------------------
VERIFY_CANARY: Final = "taximeter.verify.canary"  # gauge, s: when `taximeter verify` last sent one

# --- Labels of our own ----------------------------------------------------------------
CACHE: Final = "taximeter.cache"  # name of one of the service's caches, on cache counters
HOOK: Final = "taximeter.hook"  # where in the agent a failure happened
MODEL_ATTEMPTS: Final = "taximeter.model.attempts"  # HTTP tries of one call, on its span
