"""What admins see and do, by the forms of their pages."""

from pilothouse.feedback.tables import Kind

from .examples import tasks, writing_tasks
from .running import Client, Running


def ranked(site: Running, *, times: int = 3) -> str:
    """Returns a rater who has ranked some tasks."""
    rater = site.add_person()
    client = site.client(rater)
    for _ in range(times):
        assignment = client.call("/api/next", name="quality").json()["task"]["assignment"]
        body = {"id": assignment, "assignment": assignment, "ranks": [1, 2, 3, 4], "comment": "a remark"}
        assert client.call("/api/submit", **body).status_code == 200
    return rater


def admin(site: Running) -> Client:
    return site.client(site.add_person(admin=True))


def test_a_task_shows_its_sources_and_what_raters_said(site: Running) -> None:
    site.fill(tasks(1), overlap=2)
    ranked(site, times=1)
    task = tasks(1)[0]
    page = admin(site).get("/admin/task", params={"id": task.id}, follow_redirects=True).text
    for told in (task.answers[0].source.model, task.prompt.source, "a remark", "answered 1 of 2"):
        assert told in page


def test_what_raters_wrote_is_shown_as_text_beside_the_answer_it_mends(site: Running) -> None:
    site.fill(tasks(1))
    rater = site.add_person()
    client = site.client(rater)
    assignment = client.call("/api/next", name="quality").json()["task"]["assignment"]
    better = [{"place": place, "text": f"<b>better</b>\nthan {place}"} for place in (3, 0)]
    body = {"id": assignment, "assignment": assignment, "ranks": [1, 2, 3, 4], "corrections": better}
    assert client.call("/api/submit", **body).status_code == 200
    page = admin(site).get(f"/admin/task/{tasks(1)[0].id}").text
    order = site.stored(rater)[0].assignment.order
    for place in (3, 0):
        shown = page.split(f"Answer {order[place] + 1}, as mended by")[1]
        text = shown.split('<p class="text" dir="auto">')[1].split("</p>")[0]
        assert text == f"&lt;b&gt;better&lt;/b&gt;\nthan {place}"


def test_a_written_answer_is_shown_as_text(site: Running) -> None:
    site.fill(writing_tasks(1), queue="haiku", kind=Kind.DEMONSTRATION)
    client = site.client(site.add_person())
    assignment = client.call("/api/next", name="haiku").json()["task"]["assignment"]
    body = {"id": assignment, "assignment": assignment, "text": "<i>fog</i>"}
    assert client.call("/api/submit", **body).status_code == 200
    page = admin(site).get("/admin/task/write-0").text
    assert "Written by rater-" in page
    assert "&lt;i&gt;fog&lt;/i&gt;" in page


def test_tasks_that_others_hold_are_called_so_in_plain_words(site: Running) -> None:
    site.fill(tasks(1))
    site.client(site.add_person()).call("/api/next", name="quality")
    client = admin(site)
    for path in ("queue/quality", f"task/{tasks(1)[0].id}"):
        page = client.get(f"/admin/{path}").text
        assert "being answered" in page
        assert "full" not in page


def test_shares_of_places_stand_beside_what_chance_gives_over_tasks_of_any_size(site: Running) -> None:
    for queue, answers in (("two", 2), ("four", 4)):
        site.fill(tasks(1, answers=answers, prefix=queue), queue=queue)
        client = site.client(site.add_person())
        assignment = client.call("/api/next", name=queue).json()["task"]["assignment"]
        body = {"id": assignment, "assignment": assignment, "ranks": list(range(1, answers + 1))}
        assert client.call("/api/submit", **body).status_code == 200
    page = admin(site).get("/admin/bias").text
    cells = [row.split("</td>")[0] for row in page.split('<td class="n">')[1:]]
    shares = [(int(top.split("\u202f")[0]), int(chance.split("\u202f")[0])) for top, chance in batched(cells)]
    assert shares == [(100, 38), (0, 38), (0, 25), (0, 25)]  # (1/2 + 1/4) / 2 where both have the place


def batched(cells: list[str]) -> list[tuple[str, str]]:
    """Returns cells two by two."""
    return list(zip(cells[::2], cells[1::2], strict=True))


def test_an_answer_is_vetoed_and_that_is_lifted_and_both_are_logged(site: Running) -> None:
    site.fill(tasks(1))
    client, path = admin(site), f"/admin/task/{tasks(1)[0].id}"
    answer = client.get(path).text.split('name="answer" value="')[1].split('"')[0]
    client.submit(path, answer=answer, act="veto", reason="wrong <i>about</i> yeast")
    assert "vetoed" in client.get(path).text
    client.submit(path, answer=answer, act="lift veto")
    assert "vetoed" not in client.get(path).text
    events = client.get("/admin/events").text
    assert "wrong &lt;i&gt;about&lt;/i&gt; yeast" in events
    assert "lift veto answer" in events


def test_a_vetoed_prompt_is_handed_out_no_more(site: Running) -> None:
    site.fill(tasks(1))
    client, path = admin(site), f"/admin/task/{tasks(1)[0].id}"
    client.submit(path, act="veto", reason="private")
    rater = site.client(site.add_person())
    assert rater.call("/api/next", name="quality").json()["task"] is None
    client.submit(path, act="lift veto")
    assert rater.call("/api/next", name="quality").json()["task"]


def test_a_paused_queue_hands_out_nothing_until_it_goes_on(site: Running) -> None:
    site.fill(tasks(1))
    client, rater = admin(site), site.client(site.add_person())
    client.submit("/admin/queue/quality", of="/admin", paused="yes")
    assert "paused" in rater.call("/api/next", name="quality").json()["nothing"]["title"].lower()
    assert "quality" not in rater.get("/").text
    client.submit("/admin/queue/quality", of="/admin", paused="no")
    assert rater.call("/api/next", name="quality").json()["task"]


def test_a_person_is_erased_once_the_admin_is_sure(site: Running) -> None:
    site.fill(tasks(3))
    rater, client = ranked(site), admin(site)
    asked = client.submit(f"/admin/raters/{rater}", of="/admin", act="erase")
    assert "for good" in asked.text
    assert "erased" not in client.get("/admin/raters").text
    client.submit(f"/admin/raters/{rater}", of="/admin", act="erase", sure="yes")
    assert "erased" in client.get("/admin/raters").text
    assert len(site.stored(rater)) == 3


def test_an_excluded_raters_work_counts_no_more(site: Running) -> None:
    site.fill(tasks(3))
    rater, client = ranked(site), admin(site)
    client.submit(f"/admin/raters/{rater}", of="/admin", act="excluded")
    assert "excluded" in client.get("/admin/raters").text
    assert not any(submission.counts for submission in site.stored(rater))
    assert client.submit(f"/admin/raters/{rater}", of="/admin", act="promoted").status_code == 400


def test_admins_cannot_shut_themselves_out(site: Running) -> None:
    rater = site.add_person(admin=True)
    answer = site.client(rater).submit(f"/admin/raters/{rater}", of="/admin", act="disabled")
    assert answer.status_code == 403


def test_an_invitation_made_on_the_page_works_and_is_shown_once(site: Running) -> None:
    client = admin(site)
    code = client.submit("/admin/invites", days="1").text.split("/invite#")[1].split('"')[0]
    assert code not in client.get("/admin/invites").text
    joined = site.client().submit("/invite", code=code, name="Grace", password="a ship in port is safe")
    assert joined.status_code == 303


def test_a_queue_shows_its_tasks_some_at_a_time(site: Running) -> None:
    site.fill(tasks(60))
    client = admin(site)
    assert "?after=50" in client.get("/admin/queue/quality").text
    assert client.get("/admin/queue/quality?after=50").text.count('scope="row"') == 10
    assert client.get("/admin/queue/quality?after=nonsense").status_code == 200
    assert client.get("/admin/queue/nothing").status_code == 404


def test_measures_of_nothing_are_shown_as_not_known(site: Running) -> None:
    client = admin(site)
    assert "Not known yet" in client.get("/admin/agreement").text
    assert "Nothing to measure yet" in client.get("/admin/bias").text


def test_raters_see_how_far_they_agree_with_others(site: Running) -> None:
    site.fill(tasks(3), overlap=2)
    first = ranked(site)
    ranked(site)
    assert "of the pairs you both put in order" in site.client(first).get("/").text
