"""
Conversion of the Messages API to the APIs of providers, and back. Pure: no I/O and no clock.

    exchange          one request and its answer in a converted dialect
    context           what all conversions of a worker share: limits, caches, learned figures
    content_headers   request headers that depend on the content
    prompt_prefix     hashes of the beginning of a prompt, to explain misses of the prompt cache
    stream_converter  the interface of all stream converters
    chat/             Chat Completions
    responses/        the Responses API
    direct/           providers that speak the Messages API
    openai_clients/   clients that speak Chat Completions or the Responses API
    added_features/   features that the model lacks, such as web search
    common/           what several dialects use
    errors/           classification and wording of errors
"""
