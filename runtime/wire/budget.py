"""The bytes that an answer may take, counted while it is made."""

from __future__ import annotations

from ..errors import PromptError


class AnswerBudget:
    """The bytes that an answer may still take. A short question can ask for a long answer.

    Example:
        >>> budget = AnswerBudget(10)
        >>> budget.spend(4)
        >>> budget.spend(7)
        Traceback (most recent call last):
        fastsam_deploy.runtime.errors.PromptError: the answer has 11 bytes or more, the server gives at most 10; ask \
for less in one request: fewer prompts, a higher conf, a lower max_det, a smaller image, or masks as "rle" or "none"
    """

    def __init__(self, limit_bytes: int | None) -> None:
        """
        Args:
            limit_bytes: of all that is spent; None: no limit.
        """
        self._limit_bytes = limit_bytes
        self._spent_bytes = 0

    def spend(self, count: int) -> None:
        """Count bytes of the answer.

        Raises:
            PromptError: they are more than are left.
        """
        self._spent_bytes += count
        if self._limit_bytes is not None and self._spent_bytes > self._limit_bytes:
            raise PromptError(
                f"the answer has {self._spent_bytes:,} bytes or more, the server gives at most {self._limit_bytes:,}; "
                "ask for less in one request: fewer prompts, a higher conf, a lower max_det, a smaller image, or masks "
                'as "rle" or "none"'
            )
