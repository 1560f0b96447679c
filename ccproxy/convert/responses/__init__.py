"""Conversion between the Messages API and OpenAI's Responses API."""
