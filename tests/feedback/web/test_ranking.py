import pytest
from playwright.sync_api import Locator, Page, expect

from pilothouse.feedback.tables import Submission

from .examples import tasks
from .running import Running


def shown(submission: Submission) -> list[int]:
    """Ranks in the order in which the rater saw the answers."""
    return [submission.ranks[position] for position in submission.assignment.order]


def press(page: Page, keys: str) -> int:
    """Presses keys, one after the other; returns how many those were."""
    for key in keys.split():
        page.keyboard.press(key)
    return len(keys.split())


def saved(page: Page) -> None:
    expect(page.locator("#toast")).to_contain_text("Saved")


@pytest.fixture
def rater(site: Running) -> str:
    site.fill(tasks(6))
    return site.add_person("Ada")


def test_four_answers_are_ranked_with_four_keys(site: Running, enter, rater: str) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    expect(page.locator("#ask")).to_have_text("Which answer is best?")
    question = page.locator("#question").inner_text()
    assert press(page, "2 4 1 Enter") <= 6
    saved(page)
    expect(page.locator("#question")).not_to_have_text(question)
    expect(page.locator("#today")).to_have_text("1")
    expect(page.locator(".answer.ranked")).to_have_count(0)
    (submission,) = site.stored(rater)
    assert shown(submission) == [3, 1, 4, 2]
    assert submission.seconds > 0


@pytest.mark.parametrize(
    ("keys", "ranks"),
    [
        ("2 4 1 3 Enter", [3, 1, 4, 2]),
        ("2 = 4 1 Enter", [2, 1, 3, 1]),
        ("2 Shift+Digit4 1 Enter", [2, 1, 3, 1]),
        ("1 Shift+Digit2 Shift+Digit3 Shift+Digit4 Enter", [1, 1, 1, 1]),
        ("1 2 3 = 4 Enter", [1, 2, 3, 3]),
        ("1 2 3 4 = Enter", [1, 2, 3, 3]),
        ("1 2 Backspace 3 4 Enter", [1, 4, 2, 3]),
        ("1 2 Control+z 3 4 Enter", [1, 4, 2, 3]),
        ("1 2 3 1 4 Enter", [4, 1, 2, 3]),
        ("1 = Escape 2 3 Enter", [1, 2, 3, 4]),
        ("Numpad4 Numpad3 Numpad2 Enter", [4, 3, 2, 1]),
    ],
)
def test_keys_make_orders_ties_and_take_steps_back(
    site: Running, enter, rater: str, keys: str, ranks: list[int]
) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    press(page, keys)
    saved(page)
    assert [shown(submission) for submission in site.stored(rater)] == [ranks]


def test_an_unfinished_order_is_not_saved(site: Running, enter, rater: str) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    press(page, "1 2 Enter")
    expect(page.locator("#hint")).to_contain_text("Not all are ranked")
    assert site.stored(rater) == []


def test_nine_answers_are_ranked_with_nine_keys(site: Running, enter) -> None:
    site.fill(tasks(1, answers=9), queue="nine")
    rater = site.add_person()
    page = enter(rater)
    page.goto("/rank/nine")
    press(page, "9 8 7 6 5 4 3 2 Enter")
    expect(page.locator("#done h1")).to_be_visible()
    assert shown(site.stored(rater)[0]) == [9, 8, 7, 6, 5, 4, 3, 2, 1]


def test_what_was_saved_is_taken_back_with_u_and_comes_back_as_it_was(
    site: Running, enter, rater: str
) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    first = page.locator("#question").inner_text()
    press(page, "3 = 1 2 Enter")
    saved(page)
    press(page, "u")
    expect(page.locator("#question .text")).to_have_text(first.splitlines()[-1])
    expect(page.locator(".answer.ranked")).to_have_count(3)
    expect(page.locator("#today")).to_have_text("0")
    assert site.stored(rater) == []
    press(page, "Enter")
    saved(page)
    assert shown(site.stored(rater)[0]) == [1, 2, 1, 3]


def test_undo_works_from_the_last_page_of_a_queue(site: Running, enter) -> None:
    site.fill(tasks(1), queue="short")
    rater = site.add_person()
    page = enter(rater)
    page.goto("/rank/short")
    press(page, "1 2 3 Enter")
    expect(page.locator("#done h1")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#task")).to_be_visible()
    expect(page.locator(".answer.ranked")).to_have_count(3)
    assert site.stored(rater) == []


def drag(page: Page, what: Locator, to: Locator, share: float) -> None:
    """Drags one chip onto another, to a share of its width."""
    start, end = what.bounding_box(), to.bounding_box()
    assert start
    assert end
    page.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
    page.mouse.down()
    page.mouse.move(end["x"] + share * end["width"], end["y"] + end["height"] / 2, steps=6)
    page.mouse.up()


def test_dragging_reorders_and_puts_answers_into_the_order(site: Running, enter, rater: str) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    press(page, "1 2")
    chips = page.locator("#order .chip")
    drag(page, chips.nth(1), chips.nth(0), 0.1)
    expect(chips).to_have_text(["2", "1"])
    drag(page, page.locator("#rest .chip").nth(1), chips.nth(0), 0.1)
    expect(chips).to_have_text(["4", "2", "1"])
    press(page, "Backspace")
    expect(chips).to_have_text(["2", "1"])
    press(page, "4 Enter")
    saved(page)
    assert shown(site.stored(rater)[0]) == [2, 1, 4, 3]


def test_taps_and_the_sign_between_two_numbers_do_without_keys(site: Running, enter, rater: str) -> None:
    page = enter(rater, has_touch=True, viewport={"width": 360, "height": 740})
    page.goto("/rank/quality")
    for place in (2, 0, 1):
        page.locator(".answer").nth(place).locator(".text").tap()
    page.locator("#order .tie").first.tap()
    page.get_by_role("button", name="Save").tap()
    saved(page)
    assert shown(site.stored(rater)[0]) == [1, 2, 1, 3]


def test_arrows_move_a_number_that_has_the_focus(site: Running, enter, rater: str) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    press(page, "1 2 3 4")
    page.locator("#order .chip").nth(3).focus()
    press(page, "ArrowLeft ArrowLeft =")
    expect(page.locator("#order .chip")).to_have_text(["1", "4", "2", "3"])
    page.get_by_role("button", name="Save").click()
    saved(page)
    assert shown(site.stored(rater)[0]) == [1, 2, 3, 1]


def test_flags_edits_and_comments_are_reached_by_keys(site: Running, enter, rater: str) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    press(page, "f 3 e 2")
    expect(page.locator("[name=correction-1]")).to_be_focused()
    page.keyboard.press("Control+End")
    page.keyboard.type(" Mended.")
    press(page, "Escape c")
    page.keyboard.type("1 is <b>odd</b>")
    press(page, "Escape 1 2 4 Enter")
    saved(page)
    (submission,) = site.stored(rater)
    assert submission.comment == "1 is <b>odd</b>"
    assert submission.unsafe == [submission.assignment.order[2]]
    expect(page.locator("details[open].correction")).to_have_count(0)
    expect(page.locator("#comment-text")).to_have_value("")


def test_an_answer_that_was_opened_but_not_changed_is_no_correction(site: Running, enter, rater: str) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    bodies: list[dict[str, object]] = []
    page.on(
        "request", lambda request: bodies.append(request.post_data_json) if "submit" in request.url else None
    )
    press(page, "e 1 Escape 1 2 3 Enter")
    saved(page)
    assert bodies[0]["corrections"] == []


def test_a_task_is_skipped_with_two_keys(site: Running, enter, rater: str) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    press(page, "Escape")
    expect(page.get_by_role("group", name="Why skip")).to_be_visible()
    press(page, "1")
    expect(page.locator("#toast")).to_contain_text("Skipped")
    assert [(row.kind, row.skip_reason) for row in site.stored(rater)] == [("skip", "unclear")]


def test_the_page_needs_no_script(site: Running, enter, rater: str) -> None:
    page = enter(rater, java_script_enabled=False)
    page.goto("/rank/quality")
    for place, rank in enumerate("2114"):
        page.locator(f"[name=rank-{place}]").select_option(rank)
    page.locator("[name=unsafe-3]").check()
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#ask")).to_have_text("Which answer is best?")
    page.locator("#skip summary").click()
    page.get_by_role("button", name="language").click()
    ranked, skipped = site.stored(rater)
    assert shown(ranked) == [2, 1, 1, 3]
    assert ranked.unsafe == [ranked.assignment.order[3]]
    assert skipped.skip_reason == "language"


def test_sources_stay_hidden_and_orders_differ_between_raters(site: Running, enter, rater: str) -> None:
    site.fill([], overlap=9)
    orders = set()
    for _ in range(8):
        page = enter(site.add_person())
        page.goto("/rank/quality")
        assert "secret" not in page.content()
        assert "task-" not in page.content()
        orders.add(page.locator(".answers").inner_text())
    assert len(orders) > 1


def test_the_order_of_answers_obeys_its_laws(site: Running, enter, rater: str) -> None:
    page = enter(rater)
    page.goto("/rank/quality")
    laws = """async ([module, seed]) => {
      const { EMPTY, put, remove, move, toggleTie, ranks } = await import(module);
      let state = seed;
      const random = (below) => (state = (state * 48271) % 2147483647) % below;
      for (let round = 0; round < 3000; round++) {
        const count = 2 + random(8);
        let order = EMPTY;
        for (let step = 0; step < 12; step++) {
          const act = [
            () => put(order, random(count), random(2) === 1),
            () => remove(order, random(count)),
            () => {
              const placed = order.places.length;
              return placed ? move(order, order.places[random(placed)], random(10)) : order;
            },
            () => toggleTie(order, random(10)),
          ][random(4)];
          order = act();
          if (new Set(order.places).size !== order.places.length) return "an answer twice";
          if (order.ties.length !== order.places.length) return "ties do not fit";
          if (order.ties[0]) return "the first is tied to nothing";
          const found = ranks(order, count);
          if ((found === null) !== (order.places.length < count - 1)) return "complete too early or too late";
          const levels = [...new Set(found ?? [1])].sort((a, b) => a - b);
          if (levels.some((rank, index) => rank !== index + 1)) return `ranks with gaps: ${found}`;
        }
      }
      return "all hold";
    }"""
    module = page.locator("script[src$='rank.js']").get_attribute("src").replace("rank.js", "order.js")
    assert page.evaluate(laws, [module, 7]) == "all hold"
