"""The commands of ``feedback``, put together."""

import typer

from pilothouse.cli.feedback import data, people, queues, sample, tasks

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def feedback() -> None:
    """Collects people's judgements: queues, tasks, raters, quality, data."""


app.command("queues")(queues.queues)
app.command("queue")(queues.queue)
app.command("sample")(sample.sample)
app.command("add")(tasks.add)
app.command("tasks")(tasks.tasks)
app.command("veto")(queues.veto)
app.command("flag")(queues.flag)
app.command("invite")(people.invite)
app.command("raters")(people.raters)
app.command("rater")(people.rater)
app.command("erase")(people.erase)
app.command("quality")(people.quality)
app.command("export")(data.export)
app.command("import")(data.import_)
