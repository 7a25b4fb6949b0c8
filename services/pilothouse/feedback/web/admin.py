"""What admins see of queues, raters, measures, tasks and events. What they do is in `admin_acts`."""

from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pilothouse.feedback.store import queues
from pilothouse.feedback.web.queries import crew, latest_events, task_with_opinions, tasks_of
from pilothouse.feedback.web.site import Visitor, render, site_of

_TASKS_SHOWN = 50
_EVENTS_SHOWN = 200
_TYPICAL = (0.63, 0.80)
"""How often two people order a pair alike, in published studies of preferences."""
_LEAST = 0.6
"""Below this, something is wrong with the instructions or the raters."""


async def show_queues(request: Request, visitor: Visitor) -> Response:
    """All queues and how far they are."""
    site = site_of(request)
    found = await site.database.read(queues.list_queues, now=site.clock())
    return render(request, "admin_queues.html", visitor, queues=found)


async def show_queue(request: Request, visitor: Visitor) -> Response:
    """The tasks of a queue, some at a time."""
    name = request.path_params["queue"]
    after = request.query_params.get("after", "0")
    start = int(after) if after.isascii() and after.isdigit() and len(after) < 16 else 0
    tasks = await site_of(request).database.read(tasks_of, name, after=start, limit=_TASKS_SHOWN + 1)
    return render(
        request,
        "admin_queue.html",
        visitor,
        queue=name,
        tasks=tasks[:_TASKS_SHOWN],
        following=tasks[_TASKS_SHOWN - 1].number if len(tasks) > _TASKS_SHOWN else None,
    )


async def find_task(request: Request, visitor: Visitor) -> Response:
    """Goes to the task whose id was typed."""
    task = request.query_params.get("id", "").strip()
    found, _ = await site_of(request).database.read(task_with_opinions, task)
    return RedirectResponse(f"/admin/task/{found.id}", 303)


async def show_task(request: Request, visitor: Visitor) -> Response:
    """One task with the sources of its answers, and what raters said of it."""
    found, opinions = await site_of(request).database.read(task_with_opinions, request.path_params["task"])
    return render(request, "admin_task.html", visitor, task=found, opinions=opinions)


async def show_agreement(request: Request, visitor: Visitor) -> Response:
    """How far raters agree."""
    return await _measured(request, visitor, "admin_agreement.html", typical=_TYPICAL, least=_LEAST)


async def show_bias(request: Request, visitor: Visitor) -> Response:
    """What draws raters besides quality: the place on the page, the length."""
    return await _measured(request, visitor, "admin_bias.html")


async def show_raters(request: Request, visitor: Visitor) -> Response:
    """All raters and their work."""
    site = site_of(request)
    people, answers, skips = await site.database.read(crew)
    report = await site.measures.report()
    return render(
        request,
        "admin_raters.html",
        visitor,
        people=people,
        answers=answers,
        skips=skips,
        reports={rater.rater: rater for rater in report.raters},
    )


async def show_events(request: Request, visitor: Visitor) -> Response:
    """The newest lines of the audit log."""
    events = await site_of(request).database.read(latest_events, _EVENTS_SHOWN)
    return render(request, "admin_events.html", visitor, events=events)


async def _measured(request: Request, visitor: Visitor, template: str, **values: Any) -> Response:
    """Renders a page of measures over the queue that was asked for, or over all."""
    site = site_of(request)
    names = [
        counts.settings.name for counts in await site.database.read(queues.list_queues, now=site.clock())
    ]
    queue = request.query_params.get("queue", "")
    queue = queue if queue in names else ""
    report = await site.measures.report(queue)
    return render(request, template, visitor, report=report, queue=queue, names=names, **values)
