"""The audit log: vetoes, exports, invitations, exclusions, erasures."""

from sqlalchemy.orm import Session

from pilothouse.feedback.tables import Event


def record(
    session: Session, action: str, *, actor: str = "", target: str = "", detail: str = "", now: float
) -> None:
    """Notes what was done. An empty actor is the operator."""
    session.add(Event(at=now, actor=actor, action=action, target=target, detail=detail))
