"""The first page after logging in, and the help page."""

from starlette.requests import Request
from starlette.responses import Response

from pilothouse.feedback.quality.report import QualityReport, RaterQuality
from pilothouse.feedback.web.queries import work_of
from pilothouse.feedback.web.site import Visitor, render, site_of
from pilothouse.feedback.web.work import FOLDERS, midnight


async def home(request: Request, visitor: Visitor) -> Response:
    """The queues with work for this rater, and how the rater's own work goes."""
    site = site_of(request)
    work = await site.database.read(work_of, visitor.person.id, since=midnight(site))
    report = await site.measures.report_soon()
    return render(
        request,
        "home.html",
        visitor,
        work=work,
        folders=FOLDERS,
        mine=_of(report, visitor.person.pseudonym),
    )


async def help_page(request: Request, visitor: Visitor) -> Response:
    """The keys, and what is meant by what."""
    return render(request, "help.html", visitor, undo_seconds=site_of(request).config.undo_seconds)


def _of(report: QualityReport | None, pseudonym: str) -> RaterQuality | None:
    raters = report.raters if report else ()
    return next((rater for rater in raters if rater.rater == pseudonym), None)
