"""Voices on the Hugging Face Hub, or a mirror of it (HF_ENDPOINT).

Only the three files of a voice are ever fetched; none of them is run or unpickled.
"""

import re
import tempfile
from pathlib import Path
from typing import NamedTuple, NoReturn

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from wavestill.publish.folder import OWN_FILES, Voice, save

_NAME = r"(\w[\w.-]*)/(\w[\w.-]*)"


class Remote(NamedTuple):
    """Where a voice lies on the hub.

    Arguments:
        repo_id: `owner/name`.
        revision: Branch, tag or commit; None for the main branch.
    """

    repo_id: str
    revision: str | None = None


def remote(path: Path | str) -> Remote | None:
    """The place on the hub that is meant, or None where a folder is.

    `owner/name` or `owner/name@revision`, unless this folder has an `owner` of its own.

    Example:
        >>> remote("somebody/a-voice@v1")
        Remote(repo_id='somebody/a-voice', revision='v1')
        >>> remote("/voices/a-voice") is None
        True
    """
    text = path.as_posix() if isinstance(path, Path) else path
    match = re.fullmatch(rf"{_NAME}(?:@([\w./-]+))?", text)
    if match is None or Path(match[1]).exists():
        return None
    return Remote(f"{match[1]}/{match[2]}", match[3])


def download(place: Remote) -> Path:
    """The folder of a voice from the hub; from the cache where that is fresh or there is no net.

    Raises:
        ValueError: If it cannot be had.
    """
    try:
        folder = snapshot_download(
            place.repo_id, revision=place.revision, allow_patterns=list(OWN_FILES)
        )
    except LocalEntryNotFoundError as error:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub does not answer"
        raise ValueError(
            f"there is no folder '{place.repo_id}', and the voice of that name on the hub is not "
            f"in the cache while {why}"
        ) from error
    except Exception as error:  # the hub's, or of whatever it sends by: that changes
        _refuse(place, error)
    return Path(folder)


def push(voice: Voice, repo_id: str, *, private: bool = False) -> str:
    """Put a voice on the hub: weights, config and card, in one commit.

    Log in before (`hf auth login`, or HF_TOKEN). What is there under this name is replaced.

    Arguments:
        voice: The voice; say under which licence it may be used (`voice.license`).
        repo_id: `owner/name`; made where it does not exist.
        private: Whether a repository that is made is private.

    Returns:
        Its address.

    Raises:
        ValueError: If the voice has no licence, the name is none, or the hub refuses.
    """
    if voice.license is None:
        raise ValueError(
            "the voice has no licence, without which nobody may use it; give one (--license "
            "cc-by-4.0), that of its recordings or stricter"
        )
    if re.fullmatch(_NAME, repo_id) is None:
        raise ValueError(f"'{repo_id}' cannot be a name on the hub; give owner/name")
    api = HfApi(library_name="wavestill")
    try:
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            own = Path(folder) / repo_id.rpartition("/")[2]
            save(voice, own, hub_id=repo_id)
            api.upload_folder(
                repo_id=repo_id,
                folder_path=own,
                commit_message="Voice, written by wavestill",
                allow_patterns=list(OWN_FILES),
            )
    except Exception as error:  # the hub's, or of whatever it sends by: that changes
        _refuse(Remote(repo_id), error)
    return str(url)


def _refuse(place: Remote, error: Exception) -> NoReturn:
    """Say in one line what the hub said.

    Raises:
        ValueError: Always.
    """
    name = place.repo_id
    if isinstance(error, GatedRepoError):
        reason = "asks for its terms to be accepted on its page, and for a login (hf auth login)"
    elif isinstance(error, RepositoryNotFoundError):
        reason = (
            "does not exist on the hub, or is private and needs a login (hf auth login); there is "
            "no folder of that name either"
        )
    elif isinstance(error, HFValidationError):
        reason = "cannot be a name on the hub; give owner/name"
    elif isinstance(error, RevisionNotFoundError):
        reason = f"has no revision '{place.revision}'"
    elif isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        reason = "is refused by the hub: log in (hf auth login) with a token that may write there"
    else:
        reason = "cannot be reached on the hub: " + " ".join(str(error).split())[:200]
    raise ValueError(f"'{name}' {reason}") from error
