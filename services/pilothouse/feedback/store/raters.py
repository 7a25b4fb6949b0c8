"""A rater's row: whoever holds it is alone with what the rater does. Runs inside the caller's transaction."""

from sqlalchemy.orm import Session

from pilothouse.errors import NotFoundError, RaterBarredError
from pilothouse.feedback.tables import Rater, RaterState


def get_rater(session: Session, rater: str, *, lock: bool = False) -> Rater:
    """Returns a rater.

    Raises:
        NotFoundError: There is no such rater.
    """
    found = session.get(Rater, rater, with_for_update={"key_share": True} if lock else None)
    if found is None:
        raise NotFoundError(
            f"there is no rater '{rater}'; AddRater makes one, `pilothouse feedback raters` or "
            "ListRaters shows all"
        )
    return found


def lock_rater(session: Session, rater: str) -> Rater:
    """As `get_rater`, the row locked to the end of the transaction."""
    return get_rater(session, rater, lock=True)


def active_rater(session: Session, rater: str) -> Rater:
    """As `lock_rater`, of a rater who may work.

    Raises:
        NotFoundError: There is no such rater.
        RaterBarredError: The rater was disabled or excluded.
    """
    found = lock_rater(session, rater)
    if found.state != RaterState.ACTIVE:
        raise RaterBarredError(f"rater {found.pseudonym} is {found.state}; ask an admin")
    return found
