"""Tasks as people meet them."""

from pilothouse.feedback.records import AnswerRecord, PromptRecord, Source
from pilothouse.feedback.store.tasks import TaskRecord

QUESTIONS = (
    (
        "My sourdough comes out flat every time. What am I doing wrong?",
        (
            "Flat loaves usually mean the dough was left too long, or not long enough. Try this: put a "
            "little dough into a narrow glass, mark its height, and shape the loaf when it has grown by "
            "half.",
            "It could be your starter. Feed it twice a day for three days and use it when it has just "
            "doubled; a spoonful should float on water.",
            "Bread is made from flour, water, salt and yeast. Bread has been made for thousands of years. "
            "There are many kinds of bread.",
            "Use more flour.",
        ),
    ),
    (
        "Explain what a mutex is to somebody who has just learned to program.",
        (
            "A mutex is like the key to a small room: whoever holds it may go in, everybody else waits at "
            "the door. In a program the room is data that two threads must not change at once.",
            "Mutex is short for mutual exclusion.",
            "A mutex is a semaphore with a count of one, except that it has an owner, and so priority "
            "inheritance can be implemented for it.\n\nExample:\n\n"
            "    with lock:\n        total += amount\n\n"
            "While one thread is between those lines, no other thread can be.",
            "I'd be happy to explain! Great question! A mutex is something you will meet often in programs.",
        ),
    ),
)


def tasks(count: int = 4, *, answers: int = 4, prefix: str = "task") -> list[TaskRecord]:
    """Returns tasks to rank, no two the same."""
    made = []
    for number in range(count):
        question, texts = QUESTIONS[number % len(QUESTIONS)]
        messages = (("user", question if number < len(QUESTIONS) else f"{question} ({number})"),)
        shown = [texts[place % len(texts)] + (" " * (place // len(texts))) for place in range(answers)]
        made.append(
            TaskRecord(
                id=f"{prefix}-{number}",
                prompt=PromptRecord(messages=messages, source="examples"),
                answers=tuple(
                    AnswerRecord(text=text, source=Source(model="secret-model", run="secret-run", version=7))
                    for text in shown
                ),
            )
        )
    return made


def writing_tasks(count: int = 2) -> list[TaskRecord]:
    """Returns tasks to write."""
    return [
        TaskRecord(id=f"write-{number}", prompt=PromptRecord(text=f"Write a haiku about harbour {number}."))
        for number in range(count)
    ]
