"""`wavestill completion`."""

from typing import Literal

from wavestill.commands.terminal import Outcome, say


def completion(shell: Literal["bash", "zsh", "fish"]) -> Outcome:
    """Print what makes a shell complete wavestill's commands, options and choices.

    bash: wavestill completion bash > ~/.local/share/bash-completion/completions/wavestill
    zsh: wavestill completion zsh > ~/.zfunc/_wavestill (a folder of $fpath)
    fish: wavestill completion fish > ~/.config/fish/completions/wavestill.fish

    Arguments:
        shell: The shell.
    """
    from wavestill.cli import whole_parser  # which knows this command

    script = whole_parser().get_completion_script(f"shtab-{shell}")
    say(script)
    return Outcome({"shell": shell, "script": script})
