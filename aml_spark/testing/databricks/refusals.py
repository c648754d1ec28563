"""How Databricks refuses."""

from __future__ import annotations


class RefusalError(Exception):
    """An answer other than what was asked for.

    Args:
        status: of HTTP.
        code: Databricks' code, such as `INVALID_PARAMETER_VALUE`.
        message: what it tells.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def answer(self) -> tuple[dict[str, str], int]:
        """Body and status."""
        return {"error_code": self.code, "message": str(self)}, self.status


def invalid(message: str) -> RefusalError:
    """For what was asked in a way that can't be meant."""
    return RefusalError(400, "INVALID_PARAMETER_VALUE", message)


def missing(path: str) -> RefusalError:
    """For a file or folder that isn't there."""
    return RefusalError(404, "RESOURCE_DOES_NOT_EXIST", f"Path ({path}) doesn't exist.")
