"""Installation and configuration of other proxies for comparison. Nothing here is shipped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results" / "peers"
"""In the folder of the results, which git ignores."""

LITELLM = "litellm[proxy]"
ROUTER = "@musistudio/claude-code-router"
LITELLM_ENVIRON = {
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # it listens on loopback only
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "LITELLM_USE_CHAT_COMPLETIONS_URL_FOR_ANTHROPIC_MESSAGES": "true",  # not its Responses API
}


def install_litellm() -> Path:
    """Install LiteLLM if it is missing; return the path of its program."""
    venv = FOLDER / "litellm"
    program = venv / "bin/litellm"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(venv / "bin/pip"), "install", "--quiet", LITELLM], check=True)
    return program


def install_router() -> Path:
    """Install claude-code-router if it is missing; return the path of its script."""
    prefix = FOLDER / "router"
    script = prefix / "node_modules" / ROUTER / "dist/cli.js"
    if not script.exists():
        prefix.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(prefix), "--no-audit", "--no-fund", ROUTER]
        subprocess.run(command, check=True)
    return script


def litellm_config(upstream: str) -> dict[str, Any]:
    """Return a configuration that maps every model name to the scripted provider."""
    parameters = {"model": "openai/gpt-4o", "api_base": f"{upstream}/v1", "api_key": "sk-bench"}
    return {
        "model_list": [{"model_name": "*", "litellm_params": parameters}],
        "litellm_settings": {"telemetry": False, "drop_params": True, "num_retries": 0},
    }


def router_config(upstream: str, port: int) -> dict[str, Any]:
    """Return a configuration that routes everything to the scripted provider, without logs."""
    provider = {
        "name": "bench",
        "api_base_url": f"{upstream}/v1/chat/completions",
        "api_key": "sk-bench",
        "models": ["gpt-4o"],
    }
    return {
        "HOST": "127.0.0.1",
        "PORT": port,
        "LOG": False,
        "NON_INTERACTIVE_MODE": True,
        "Providers": [provider],
        "Router": {"default": "bench,gpt-4o"},
    }


def nginx_conf(port: int, upstream_port: int, folder: Path) -> str:
    """Return the configuration of a relay that forwards every byte immediately."""
    return f"""
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 64m;
  client_body_buffer_size 16m;
  keepalive_requests 1000000;
  upstream provider {{ server 127.0.0.1:{upstream_port}; keepalive 1024; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /v1/messages {{
      proxy_pass http://provider/v1/chat/completions;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer sk-bench";
      proxy_buffering off;
      proxy_read_timeout 120s;
    }}
  }}
}}
"""
