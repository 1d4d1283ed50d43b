"""`wavestill push`."""

import dataclasses
from pathlib import Path

from wavestill import publish
from wavestill.commands.terminal import Outcome, say, waiting


def push(
    model: Path, repo_id: str, *, license: str | None = None, private: bool = False
) -> Outcome:
    """Put a voice on the Hugging Face Hub: weights, config and card.

    Log in before, with 'hf auth login' or HF_TOKEN. What is there under this name is replaced.

    Arguments:
        model: Folder of a voice.
        repo_id: Its name there, owner/name; made where it does not exist.
        license: Under which it may be used, as the hub writes it (cc-by-4.0, cc0-1.0, ...): that
            of its recordings or stricter. Must be given unless the voice tells its own.
        private: Whether a repository that is made can be seen by its owner alone.
    """
    voice = publish.load(model)
    if license is not None:
        voice = dataclasses.replace(voice, license=license)
    from wavestill.publish.hub import push as send

    with waiting("sending"):
        url = send(voice, repo_id, private=private)
    say(f"{model} -> {url}")
    return Outcome({"url": url, "license": voice.license})
