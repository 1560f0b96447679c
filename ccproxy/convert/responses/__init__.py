"""Messages API to OpenAI's Responses API and back."""
