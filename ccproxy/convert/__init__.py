"""
Conversion between the Messages API and the providers' APIs. Pure: no I/O and no clock.

    exchange          one request and its answer in a converted dialect
    context           state shared by a worker's conversions: limits, caches, learned refusals
    content_headers   request headers that depend on the content
    prompt_prefix     hashes of a prompt's blocks, to explain prompt cache misses
    stream_converter  the interface of all stream converters
    chat/             Chat Completions
    responses/        the Responses API
    direct/           providers that speak the Messages API
    openai_clients/   clients that speak Chat Completions or the Responses API
    added_features/   features that the model lacks, such as web search
    common/           code shared by several dialects
    errors/           classification and wording of errors
"""
