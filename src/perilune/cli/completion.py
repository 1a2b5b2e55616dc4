"""Completion of commands and options in bash, zsh and fish."""

from __future__ import annotations

from collections.abc import Mapping

from perilune.cli.parser import CommandLineError, Parser

BASH = """_perilune() {
  local words
  COMPREPLY=()
  case "${COMP_WORDS[1]} ${COMP_WORDS[2]}" in
%s
    *) words="%s" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}") $(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _perilune perilune"""


def script(shell: str, parsers: Mapping[str, Parser]) -> str:
    """Return the script to load into ``shell``, for example by ``source <(perilune --print-completion bash)``.

    Raises:
        CommandLineError: the shell is not bash, zsh or fish.
    """
    options = {
        name: [word for action in parser._actions for word in action.option_strings] for name, parser in parsers.items()
    }
    first = sorted({name.split()[0] for name in parsers})
    if shell == "fish":
        lines = [f"complete -c perilune -n __fish_use_subcommand -a '{' '.join(first)}'"]
        for name, words in options.items():
            seen = " ".join(f"; and __fish_seen_subcommand_from {word}" for word in name.split()).removeprefix("; and ")
            lines += [f"complete -c perilune -n '{seen}' -l {word[2:]}" for word in words if word.startswith("--")]
        return "\n".join(lines)
    if shell not in ("bash", "zsh"):
        raise CommandLineError(f"perilune: no completion for {shell!r}: expected bash, zsh or fish.")
    second = " ".join(name.split()[1] for name in options if " " in name)
    cases = [f'    "bench "*) words="{second}" ;;']
    for name, words in options.items():
        pattern = f'"{name}"' if " " in name else f'"{name} "*'
        cases.insert(0, f'    {pattern}) words="{" ".join(words)}" ;;')
    bash = BASH % ("\n".join(cases), " ".join(first))
    return f"autoload -U bashcompinit && bashcompinit\n{bash}" if shell == "zsh" else bash
