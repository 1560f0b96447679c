"""Requests and answers of OpenAI clients, over a provider of any dialect."""
