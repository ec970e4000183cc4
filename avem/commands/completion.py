"""Shell completion: Typer's, with its zsh script repaired."""

from __future__ import annotations

from typer import _completion_shared

REGISTER = "compdef %(complete_func)s %(prog_name)s"
"""Last line of Typer's script for zsh."""
COMPLETE = """
if [[ $funcstack[1] == _%(prog_name)s ]]; then
  %(complete_func)s "$@"
fi"""
"""What is missing after it: zsh loads the file at the first TAB, and wants an answer to that one too."""


def repair_zsh() -> None:
    """Have the first TAB in a new zsh complete; a Typer whose script is another one is left as it is."""
    scripts = getattr(_completion_shared, "_completion_scripts", {})
    script = scripts.get("zsh", "")
    if script.rstrip().endswith(f"\n{REGISTER}"):
        scripts["zsh"] = script.rstrip() + COMPLETE
