"""Print the completion script of a shell."""

from __future__ import annotations

import os

import click
from click.shell_completion import (
    CompletionItem,
    ShellComplete,
    add_completion_class,
    get_completion_class,
)

from ccproxy.cli.command import Options, command
from ccproxy.cli.render.terminal import show
from ccproxy.errors import UsageError

SHELLS = ("bash", "zsh", "fish", "pwsh")
VARIABLE = "_CCPROXY_COMPLETE"

_PWSH = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = $commandAst.CommandElements | ForEach-Object { $_.ToString() }
    $env:COMP_WORDS = ($words -join "`n")
    $env:COMP_INCOMPLETE = $wordToComplete
    $env:%(complete_var)s = 'pwsh_complete'
    try {
        %(prog_name)s | ForEach-Object {
            [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
        }
    } finally {
        Remove-Item Env:%(complete_var)s, Env:COMP_WORDS, Env:COMP_INCOMPLETE
    }
}
"""


class PowerShellComplete(ShellComplete):
    """Completion for PowerShell, which click does not support."""

    name = "pwsh"
    source_template = _PWSH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the complete words and the incomplete one at the cursor."""
        words = os.environ["COMP_WORDS"].split("\n")[1:]
        incomplete = os.environ.get("COMP_INCOMPLETE", "")
        if incomplete and words and words[-1] == incomplete:
            words.pop()
        return words, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """Return the line of output for *item*."""
        return str(item.value)


add_completion_class(PowerShellComplete)


@command(
    'eval "$(ccproxy completion bash)"      # in ~/.bashrc; for zsh in ~/.zshrc',
    "ccproxy completion fish > ~/.config/fish/completions/ccproxy.fish",
    "ccproxy completion pwsh | Out-String | Invoke-Expression      # in $PROFILE",
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(_: Options, shell: str) -> None:
    """Print the completion script of SHELL."""
    completion_class = get_completion_class(shell)
    if completion_class is None:
        raise UsageError(f"no completion for {shell}")
    program = click.get_current_context().find_root().command
    script = completion_class(program, {}, "ccproxy", VARIABLE)
    # Not script.source(), which starts bash only to check its version.
    show(_adapted(shell, script.source_template) % script.source_vars())


def _adapted(shell: str, template: str) -> str:
    """Return click's *template* for *shell* with two corrections."""
    match shell:
        case "zsh":  # a .zshrc may source the script before it loads the completion system
            load = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }"
            return template.replace("    compdef %", f"    {load}\n    compdef %")
        case "fish":  # click splits at every comma, which would cut off the description
            return template.replace('string split ","', 'string split --max 1 ","')
    return template
