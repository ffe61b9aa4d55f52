"""What the Hugging Face hub's libraries raise, in our words: what is missing, refused, or may be tried again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from knowtune.common.errors import TransientError, UserError


def _transport_errors() -> tuple[type[Exception], ...]:
    """List what breaks a connection; which client the hub's libraries use follows their version."""
    import importlib

    clients = [name for name in ("httpx", "httpx2") if importlib.util.find_spec(name)]
    return tuple(importlib.import_module(name).TransportError for name in clients)


@contextmanager
def hub_errors(repo: str, revision: str | None) -> Iterator[None]:
    """Say in our words what the hub's libraries say in theirs."""
    from huggingface_hub import errors

    what = f"hub: {repo}" + (f" at {revision[:8]}" if revision else "")
    try:
        yield
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UserError(
            f"{what}: not found, or not yours to read ({type(error).__name__}); check `repo` and `revision`, and log "
            "in with `hf auth login` where it is gated"
        ) from error
    except (  # type: ignore[misc]
        errors.OfflineModeIsEnabled,
        errors.LocalEntryNotFoundError,
        errors.HfHubHTTPError,
        ConnectionError,
        *_transport_errors(),
    ) as error:
        answer = error if isinstance(error, errors.HfHubHTTPError) else error.__cause__
        code = answer.response.status_code if isinstance(answer, errors.HfHubHTTPError) else None
        if code is not None and code < 500 and code != 429:
            raise UserError(f"{what}: the hub answers {code}: {str(answer).splitlines()[0]}") from error
        raise TransientError(
            f"{what}: the hub cannot be reached, and this machine's cache does not have it. Try again, or download it "
            "elsewhere and give the folder as `repo`"
        ) from error
    except FileNotFoundError as error:  # datasets' own words for a data set that is not there
        raise UserError(f"{what}: {str(error).splitlines()[0]}") from error
    except ValueError as error:  # UserError among them
        if isinstance(error, UserError):
            raise
        raise UserError(f"{what}: {error}") from error
