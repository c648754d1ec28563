"""Tokens: where they come from, when they are replaced, and what is said where there is none."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
import types
from typing import Any, NamedTuple

import pytest

from aml_spark import auth
from aml_spark.errors import AuthenticationError


class Given(NamedTuple):
    token: str
    expires_on: float


class Counting:
    """A credential that gives a new token each time."""

    def __init__(self, lifetime: float = 3600) -> None:
        self.lifetime, self.count = lifetime, 0

    def get_token(self, scope: str) -> Given:
        self.count += 1
        time.sleep(0.05)
        return Given(f"{scope} {self.count}", time.time() + self.lifetime)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AZURE_", "MLFLOW_TRACKING_", "DATABRICKS_", "IDENTITY_", "MSI_")):
            monkeypatch.delenv(name)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    credential = Counting()
    monkeypatch.setitem(auth._SOURCES, "azure-identity", lambda: credential)
    return credential


def jwt(**claims: Any) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{middle}.c2ln"


def test_a_ready_token_comes_first(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = jwt(exp=time.time() + 600)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", ready)
    assert auth.Tokens().get() == ready
    assert counting.count == 0


def test_a_ready_token_that_has_ended_is_passed_over(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", jwt(exp=1_700_000_000))
    assert auth.Tokens("scope").get() == "scope 1"


@pytest.mark.parametrize("named", [None, "storage-reader"])
def test_on_databricks_the_service_credential_goes_before_azure_identity(
    counting: Counting, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    asked: list[str | None] = []

    def provider(name: str | None) -> Counting:  # what Databricks' runtime brings
        asked.append(name)
        return Counting()

    module = types.ModuleType("databricks.service_credentials")
    module.getServiceCredentialsProvider = provider  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "databricks.service_credentials", module)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    if named:
        monkeypatch.setenv("DATABRICKS_DEFAULT_SERVICE_CREDENTIAL_NAME", named)
    assert auth.Tokens("scope").get() == "scope 1"
    assert (asked, counting.count) == ([named], 0)


def test_the_time_zone_doesnt_move_a_tokens_end() -> None:
    code = "import time; time.tzset(); from aml_spark import auth; print(auth._ReadyToken().get_token('').expires_on)"
    ends = int(time.time()) + 600
    for zone in ("UTC", "Asia/Tokyo", "America/Los_Angeles"):
        env = {**os.environ, "TZ": zone, "MLFLOW_TRACKING_TOKEN": jwt(exp=ends)}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert float(done.stdout) == ends


def test_a_token_is_asked_for_once_while_it_is_good(counting: Counting) -> None:
    tokens = auth.Tokens("scope")
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(tokens.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["scope 1"] * 8


def test_a_token_is_replaced_before_its_end(counting: Counting) -> None:
    counting.lifetime = 0.5
    tokens = auth.Tokens("scope")
    assert [tokens.get(), tokens.get()] == ["scope 1", "scope 1"]
    time.sleep(0.46)  # a tenth of its time is left
    assert tokens.get() == "scope 2"


def test_a_refused_token_is_not_given_again_and_a_newer_one_is_kept(counting: Counting) -> None:
    tokens = auth.Tokens("scope")
    old = tokens.get()
    tokens.forget(old)
    assert tokens.get() == "scope 2"
    tokens.forget(old)
    assert tokens.get() == "scope 2"


def test_a_forked_process_asks_for_its_own_also_while_the_lock_is_held(counting: Counting) -> None:
    tokens = auth.Tokens("scope")
    tokens.get()
    with tokens._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if tokens.get() == "scope 2" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert tokens.get() == "scope 1"


def test_where_nothing_gives_a_token_the_error_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", jwt(exp=1_700_000_000))
    monkeypatch.setitem(auth._SOURCES, "azure-identity", Refusing)
    with pytest.raises(AuthenticationError) as raised:
        auth.Tokens().get()
    assert str(raised.value).splitlines() == [
        "no credential gives a token for https://management.azure.com/.default",
        "Hint: az login; or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET to a service principal's",
        "Tried:",
        "- MLFLOW_TRACKING_TOKEN: ended at 2023-11-14 22:13:20 UTC",
        "- Databricks service credential: not on Databricks",
        "- Databricks secret scope: AML_SPARK_SECRET_SCOPE isn't set",
        "- azure-identity: az login first",
    ]


def test_where_azure_identity_is_not_installed_the_hint_begins_with_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(AuthenticationError) as raised:
        auth.Tokens().get()
    assert str(raised.value.hint).startswith("pip install 'aml-spark[azure]'; then az login; or set AZURE_TENANT_ID")
    assert "- Databricks secret scope: AML_SPARK_SECRET_SCOPE isn't set" in str(raised.value)


def test_what_was_mended_after_a_failure_is_tried_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = [Refusing(), Counting()]
    monkeypatch.setitem(auth._SOURCES, "azure-identity", lambda: made.pop(0))
    tokens = auth.Tokens("scope")
    with pytest.raises(AuthenticationError):
        tokens.get()
    assert tokens.get() == "scope 1"


def test_azure_identitys_words_are_told_once_and_without_its_advice(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    with pytest.raises(AuthenticationError) as raised:
        auth.Tokens().get()
    told = str(raised.value)
    assert told.count("EnvironmentCredential authentication unavailable") == 1
    assert "Visit " not in told
    assert "EnvironmentCredential" not in caplog.text + "".join(capfd.readouterr())


class Refusing:
    def get_token(self, scope: str) -> Given:
        raise RuntimeError("az login first")


@pytest.mark.parametrize(("interactive", "terminal"), [(False, False), (False, True), (True, False)])
def test_nobody_is_asked_to_sign_in_unless_they_asked_for_it_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, interactive: bool, terminal: bool
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: terminal, raising=False)
    monkeypatch.setitem(auth._SOURCES, "azure-identity", Refusing)
    monkeypatch.setitem(auth._SOURCES, "interactive sign-in", lambda: asked.append("asked") or Counting())
    with pytest.raises(AuthenticationError):
        auth.Tokens(interactive=interactive).get()
    assert asked == []


def test_a_person_at_a_terminal_who_asked_for_it_may_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setitem(auth._SOURCES, "azure-identity", Refusing)
    monkeypatch.setitem(auth._SOURCES, "interactive sign-in", Counting)
    assert auth.Tokens("scope", interactive=True).get() == "scope 1"


def test_neither_repr_shows_a_token(counting: Counting) -> None:
    tokens = auth.Tokens("scope")
    tokens.get()
    assert "scope 1" not in repr(tokens) + repr(tokens._token)
