"""The workspace's jobs: submitted from a file, followed, cancelled, and what they left fetched."""

from __future__ import annotations

import codecs
import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_spark import control
from aml_spark.errors import ArgumentError, ServiceError, listed as named
from aml_spark.manage import description
from aml_spark.manage.words import apart, goes_on, told
from aml_spark.workspace import Workspace

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job

_ENDED = ("Completed", "Failed", "Canceled")  # there is nothing to cancel any more
_PAUSES = (1.0, 10.0)  # seconds between two looks at a job's logs, at first and at most


def listed(*, most: int | None = None, workspace: Workspace | None = None) -> list[Job]:
    """The jobs that aren't archived, the newest first.

    Args:
        most: how many at most; None for all, which may be thousands.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: Azure refuses.
    """
    client = control.client(workspace)
    with control.own_words("list the jobs"):
        readable = (one for one in client.jobs.list() if one is not None)  # of others azure-ai-ml gives None
        return list(itertools.islice(readable, most))


def get(name: str, workspace: Workspace | None = None) -> Job:
    """One of them.

    Args:
        name: the job's name, which is the id of its run, too.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: there is no such job.
    """
    client = control.client(workspace)
    with told(f"show the job {name!r}", "job", name):
        found: Job = client.jobs.get(name)
        return found


def submit(file: str | os.PathLike[str], workspace: Workspace | None = None) -> Job:
    """Submit a job that is described in a file, with the code that it names.

    A job without a name gets one here, by which it is found again where Azure's answer is lost. Ctrl-C says it.

    Args:
        file: YAML in the form of Azure's second command line (`$schema: …/commandJob.schema.json` and others).
        workspace: None takes the one that MLflow is configured for.

    Returns:
        The job, with the name that it got and the address of its page.

    Raises:
        ArgumentError: the file isn't there, or doesn't describe a job.
        ServiceError: Azure refuses, such as where there is no such compute.
    """
    from azure.ai.ml import load_job

    place = Path(file)
    if not place.is_file():
        raise ArgumentError(f"there is no file {str(place)!r}; expected a job in YAML")
    client = control.client(workspace)
    hint = "aml-spark compute list shows where jobs can run"
    with control.own_words(f"submit {str(place)!r}", hint=hint), description.read(place):
        job = load_job(place)
        if job.name is not None:  # there may be one of that name, which isn't the one that is sent
            with control.job_goes_on(job.name):
                return client.jobs.create_or_update(job)  # type: ignore[no-any-return]
        job.name = control.job_name(place.stem)
        with control.job_goes_on(job.name):
            submitted: Job = control.submitted(client, job.name, lambda: client.jobs.create_or_update(job))
        return submitted


def cancel(name: str, *, wait: bool = True, workspace: Workspace | None = None) -> Job:
    """End a job. One that had ended before stays as it is, and is given back with the status that it ended with.

    Args:
        name: its name.
        wait: False comes back while Azure ends it.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: there is no such job, or Azure refuses.
    """
    client = control.client(workspace)
    with told(f"cancel the job {name!r}", "job", name), goes_on(f"cancel job {name}", "job", name):
        before: Job = client.jobs.get(name)
        if before.status in _ENDED:
            return before
        poller = apart(lambda: client.jobs.begin_cancel(name))
        if wait:
            control.finished(poller, f"cancel job {name}")
        cancelled: Job = client.jobs.get(name)
        return cancelled


def logs(
    name: str,
    *,
    follow: bool = False,
    write: Callable[[str], Any] | None = None,
    workspace: Workspace | None = None,
) -> Job:
    """Write out what a job says.

    Ctrl-C stops following, not the job, and says so.

    Args:
        name: its name.
        follow: go on until the job ends.
        write: gets the text as it comes; None writes to standard output. Where there are several files, each has a
            line with its name before it.
        workspace: None takes the one that MLflow is configured for.

    Raises:
        ServiceError: there is no such job; or it was followed and failed, was cancelled, is paused or doesn't respond.
    """
    client, said_so_far, pause = control.client(workspace), _Logs(), _PAUSES[0]

    def look() -> tuple[Any, list[str]]:
        # azure-ai-ml's public way only prints, and shows nothing of a job that has ended.
        details = client.jobs._runs_operations.get_run_details(name)
        return details, said_so_far.news(details.log_files or {})

    following = control.job_goes_on(name) if follow else contextlib.nullcontext()
    with following, told(f"show the logs of the job {name!r}", "job", name):
        while True:
            details, texts = apart(look)
            for text in texts:
                (write or _print)(text)
            if not follow or details.status in control.JOB_ENDED:
                break
            pause = _PAUSES[0] if texts else min(pause * 1.5, _PAUSES[1])
            time.sleep(pause)
    if follow and details.status != "Completed":
        raise ServiceError(
            f"the job {name!r} ended as {getattr(details.status, 'value', details.status)}{_reason(details.error)}",
            hint=f"aml-spark job show {name}",
        )
    return get(name, workspace)


def download(
    name: str,
    target: str | os.PathLike[str] = ".",
    *,
    output: str | None = None,
    workspace: Workspace | None = None,
) -> Path:
    """Copy what a job left here: its logs and artifacts in `artifacts`, its outputs in `named-outputs`.

    Args:
        name: of a job that ended.
        target: folder that gets them; what is there under the same names is written over.
        output: only this one of its outputs.
        workspace: None takes the one that MLflow is configured for.

    Returns:
        The folder.

    Raises:
        ArgumentError: it has no such output.
        ServiceError: there is no such job, it hasn't ended, or Azure refuses.
    """
    client = control.client(workspace)
    with told(f"download the job {name!r}", "job", name):
        there = list(getattr(client.jobs.get(name), "outputs", None) or {})
        if output is not None and output not in there:  # of which azure-ai-ml says nothing
            raise ArgumentError(f"the job {name!r} has no output {output!r}; it has {named(there)}")
        client.jobs.download(name, download_path=target, output_name=output, all=output is None)
    return Path(target)


class _Logs:
    """What a job's logs said so far."""

    def __init__(self) -> None:
        self._lengths, self._last = dict[str, int](), ""
        self._decoders: dict[str, Any] = {}  # a character may come in two parts

    def news(self, files: Mapping[str, str]) -> list[str]:
        """What is new in these logs, by name and address."""
        texts, meant = list[str](), _meant(files)
        for name in meant:
            decoder = self._decoders.setdefault(name, codecs.getincrementaldecoder("utf-8")("replace"))
            for part in _read(files[name], self._lengths.get(name, 0)):
                if name != self._last and (self._last or len(meant) > 1):
                    texts.append(f"==> {name} <==\n")
                texts.append(decoder.decode(part))
                self._last = name
                self._lengths[name] = self._lengths.get(name, 0) + len(part)
        return texts


def _meant(files: Mapping[str, str]) -> list[str]:
    """What the job itself said; of a job that keeps that elsewhere, all but what Azure says of its own work."""
    own = [name for name in files if name.startswith("user_logs/")]
    return sorted(own or [name for name in files if not name.startswith("system_logs/")])


def _read(address: str, start: int) -> Iterator[bytes]:
    """A log from there on; nothing where it isn't longer."""
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
    from azure.storage.blob import BlobClient

    try:
        with BlobClient.from_blob_url(address, initial_backoff=1, increment_base=2) as blob:  # seconds
            yield from blob.download_blob(offset=start).chunks()
    except ResourceNotFoundError:
        return
    except HttpResponseError as error:
        if error.status_code != 416:  # there is nothing behind its end
            raise


def _reason(error: Any) -> str:
    message = getattr(getattr(error, "error", None), "message", None)
    return f": {message}" if message else ""


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
