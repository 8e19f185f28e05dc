"""The generated pages: docs/cli.md, report.md and schema.md, and signatures in docs/api.md.

Run it after changing a command, a signature or a view: `.venv/bin/python tests/reference.py`. The
page of the views is read from a migrated archive, so an embedded server is started for it.
"""

from __future__ import annotations

import importlib
import inspect
import io
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
SIGNATURES = re.compile(r"```python\n# signatures of (?P<module>\S+)\n.*?```", re.DOTALL)
QUOTED = re.compile(r"""(: |-> )(['"])(.*?)\2""")  # annotations, which are kept as text
HEAD = """# Commands

`eureka COMMAND --help` prints the same. Data goes to stdout; progress and messages to stderr.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed; `verify`: the answer is not valid |
| 2 | usage: an argument or a setting that cannot be |
| 3 | a prerequisite is missing; the message holds the fixing command |
| 4 | the budget ended without a valid attempt |
| 5 | another process owns the run |
| 130, 143 | interrupted, terminated; what was committed is kept |

| variable | meaning |
|---|---|
"""
SCHEMA_HEAD = """# The views

What `eureka sql` and every Postgres client see: the schema `public`, read by the role
`eureka_reader`. The tables behind it, in the schema `archive`, are private. The texts below are
the database's own comments (`\\d+ attempts` in psql shows them too). Examples: [sql.md](sql.md).

**Names and columns are an interface.** New columns come at the end. A column or view that is to go
is announced first: its comment begins with "Deprecated since VERSION: use …" and CHANGELOG.md
says so; it stays, with the same meaning, for at least two minor releases and six months, and goes
only with a release that names it under "Removed". A column's type or meaning never changes: what
means something else has another name. `select *` is for looking, not for programs.
"""
VIEWS = """
    select c.relname, obj_description(c.oid, 'pg_class'), a.attname,
        format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum)
    from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
    where c.relkind = 'v' and c.relnamespace = 'public'::regnamespace
    order by c.oid, a.attnum"""


def cli_page() -> str:
    """The text of docs/cli.md."""
    from eurekaflow.flows.cli import COMMANDS
    from eurekaflow.flows.database import app as db
    from eurekaflow.flows.night_commands import app as nightly
    from eurekaflow.flows.setting_sources import ENVIRONMENT

    names = [[name] for _, name, _, _ in COMMANDS]
    for group, app in (("nightly", nightly), ("db", db)):
        commands = [name for name in app.resolved_commands() if not name.startswith("-")]
        names += [[group, name] for name in commands]
    variables = "".join(f"| `{name}` | {text} |\n" for name, text in ENVIRONMENT.items())
    pages = [f"## eureka {' '.join(n)}\n\n```text\n{help_text(n)}\n```\n" for n in names]
    setting = "| `EUREKA_NAME` | the setting NAME of a run: `eureka run erdos --dry-run` |\n"
    top = f"\n## eureka\n\n```text\n{help_text([])}\n```\n\n"
    return HEAD + variables + setting + top + "\n".join(pages)


def help_text(command: list[str]) -> str:
    """What `eureka … --help` prints, without colours, 99 columns wide."""
    from rich.console import Console

    from eurekaflow.flows.cli import build

    text = io.StringIO()
    console = Console(file=text, width=99, no_color=True, force_terminal=False)
    build().help_print(command, console=console)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip()


REPORT_HEAD = """# The report

`eureka report RUN` writes a run's report as one HTML page, which loads nothing and runs no
script, and as markdown, whose text loads nothing either; a run writes it however it ends, a killed
one when its night is given up or goes on. `--compare FILE.json` draws other constructions beside
the best one; a kernel's picture is its time in every case. Hovering over a number in a table shows
all its digits. Where the archive has a best-of-N run of the same budget, its distribution is a
line over every histogram, scaled to the step's number of attempts.

![The top of a report: scores, records, the best so far](images/report.png)

(Five minutes of the bundled policy on two CPU cores, seed 1 of the table in [log.md](log.md).)

Every number is the answer to one of these questions; `%(run)s` is the run's uuid.
"""


def report_page() -> str:
    """The text of docs/report.md."""
    from eurekaflow.models.report_questions import QUESTIONS

    parts = [f"\n## {q.title}\n\n{q.shows}\n\n```sql\n{q.sql.strip()}\n```\n" for q in QUESTIONS]
    return REPORT_HEAD + "".join(parts)


def api_page(page: str) -> str:
    """`page` with every block of signatures as the code has it."""
    return SIGNATURES.sub(lambda block: signatures(block["module"]), page)


def signatures(module_name: str) -> str:
    """A code block: the public functions of a module with signature and first sentence."""
    module = importlib.import_module(module_name)
    lines = [f"```python\n# signatures of {module_name}"]
    for name, function in vars(module).items():
        own = inspect.isfunction(function) and function.__module__ == module_name
        if own and not name.startswith("_"):
            summary = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
            signature = QUOTED.sub(r"\1\3", str(inspect.signature(function)))
            lines += [f"{name}{signature}", f"    # {summary}"]
    return "\n".join([*lines, "```"])


def schema_page(url: str) -> str:
    """The text of docs/schema.md, from the comments of a migrated archive."""
    import psycopg

    text, view = SCHEMA_HEAD, ""
    with psycopg.connect(url) as connection:
        for name, about, column, kind, words in connection.execute(VIEWS):
            if name != view:
                view = name
                text += f"\n## {name}\n\n{about}.\n\n| column | type | |\n|---|---|---|\n"
            text += f"| `{column}` | {kind.replace('double precision', 'float8')} | {words} |\n"
    return text


def write_schema_page() -> None:
    """Write docs/schema.md with a server of its own."""
    import tempfile

    from eurekaflow.models import postgres, schema

    with tempfile.TemporaryDirectory(prefix="eurekaflow-reference-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        try:
            url = postgres.ensure(home).url
            schema.bootstrap(url)
            (DOCS / "schema.md").write_text(schema_page(url), encoding="utf-8")
        finally:
            postgres.stop(home, force=True)


if __name__ == "__main__":
    write_schema_page()
    (DOCS / "cli.md").write_text(cli_page(), encoding="utf-8")
    (DOCS / "report.md").write_text(report_page(), encoding="utf-8")
    api = DOCS / "api.md"
    api.write_text(api_page(api.read_text(encoding="utf-8")), encoding="utf-8")
