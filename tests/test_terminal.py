"""Names, prompts and messages from outside never steer the terminal."""

import io
import json
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.progress import Progress, TextColumn
from rich.table import Table

from tests.pages.example_runs import finished
from workbench.cli import main, output
from workbench.errors import WorkbenchError
from workbench.terminal import Visible, visible

# title of the window, clear the screen, C1 control sequence, bell, backspaces, carriage return, DEL, override of the direction …
EVIL = "a\x1b]0;owned\x07b\x1b[2J\x9b31mc\x08\x08d\re\x7ff\u202egnp\u2066g\u2028h\udc80i"
SHOWN = r"a\x1b]0;owned\x07b\x1b[2J\x9b31mc\x08\x08d\x0de\x7ff\u202egnp\u2066g\u2028h\udc80i"
STYLE = re.compile(r"\x1b\[[0-9;?]*[mhlKAG]")  # what rich writes of its own: styles, the cursor hidden and shown, a line erased
RAW = set("\x07\x08\x7f\x9b\x1b\u202e\u2066\u2028")


def test_every_hidden_character_is_written_out_and_all_others_stay():
    assert visible(EVIL) == SHOWN
    stays = "tab\tline\nä 漢字 עברית\u200f \U0001f469\u200d\U0001f52c e\u0301"
    assert visible(stays) == stays and visible(SHOWN) == SHOWN


def test_a_guarded_stream_lets_progress_bars_of_libraries_through():
    behind = io.StringIO()
    stream = Visible(behind)
    stream.writelines(["\r 10 %|#", "\x1b[A", "\x1b[A\x1b[A", f"{EVIL}\n"])
    assert behind.getvalue() == "\r 10 %|#" + "\x1b[A" * 3 + f"{SHOWN}\n"


@pytest.mark.parametrize("how", ["print", "markup", "table", "progress", "status"])
def test_a_console_styles_text_and_shows_what_hides_in_it(how):
    behind = io.StringIO()
    console = output.VisibleConsole(file=behind, force_terminal=True, width=300, emoji=False, color_system="standard")
    if how == "print":
        console.print(EVIL, markup=False)
    elif how == "markup":
        console.print(f"[bold red]{output.escape(EVIL)}[/]", highlight=False)
    elif how == "table":
        table = Table("name", title=EVIL)
        table.add_row(EVIL)
        console.print(table)
    elif how == "progress":
        with Progress(TextColumn("{task.description}"), console=console) as bar:
            bar.add_task(EVIL, total=1)
    else:
        with console.status(EVIL):
            pass
    written = behind.getvalue()
    text = STYLE.sub("", written)
    stripped = ("\\x07", "\\x08", "\\x0d") if how in ("progress", "status") else ()  # rich itself drops these
    wanted = SHOWN
    for code in stripped:
        wanted = wanted.replace(code, "")
    assert (wanted[:20] if how == "progress" else wanted) in text and not set(text) & RAW  # a bar cuts its description
    assert written != text or how == "print", "the console's own styles are gone"


def test_emoji_names_in_prompts_stay_as_they_are(capsys):
    output.say([{"prompt": "a :heart: in ink"}], False)
    assert "a :heart: in ink" in capsys.readouterr().out


def refused(message):
    def verb(*words, **options):
        raise WorkbenchError(message)

    return verb


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["workbench", *words])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    return stopped.value.code


def test_an_expected_error_with_a_hostile_name_is_safe(monkeypatch, capsys):
    monkeypatch.setattr("workbench.resources.find_study", refused(f'The tensor "{EVIL}" does not fit.'))
    assert call(monkeypatch, "run", "x") == 2
    assert f'The tensor "{SHOWN}" does not fit.' in capsys.readouterr().err


@pytest.mark.parametrize("words", [(EVIL,), ("show", "x", EVIL), ("list", f"--{EVIL}"), ("mask", EVIL)])
def test_a_usage_error_with_hostile_words_is_safe(monkeypatch, capsys, words):
    assert call(monkeypatch, *words) == 2
    said = capsys.readouterr().err
    assert r"\x1b]0;owned" in said and not set(said) & RAW


def test_an_unexpected_error_keeps_its_traceback_and_is_safe(monkeypatch, capsys):
    def broken(name):
        raise ValueError(EVIL)

    monkeypatch.setattr("workbench.resources.find_study", broken)
    assert call(monkeypatch, "run", "x") == 1
    said = capsys.readouterr().err
    assert "Traceback" in said and f"ValueError: {SHOWN}" in said and not set(said) & RAW


def test_ctrl_c_says_that_what_was_finished_is_kept(monkeypatch, capsys):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr("workbench.resources.find_study", interrupted)
    assert call(monkeypatch, "run", "x") == 130
    assert "Stopped. Finished results are kept" in capsys.readouterr().err


def test_logs_studies_and_json_are_safe(monkeypatch, capsys, tmp_path):
    run = finished(tmp_path / "run")
    (run / "run.log").write_text(f"{EVIL}\n", errors="surrogatepass")
    document = json.loads((run / "report" / "report.json").read_text())
    document["study"]["title"] = document["verdict"]["headline"] = EVIL.replace("\udc80", "")
    (run / "report" / "report.json").write_text(json.dumps(document))
    for words in (["logs"], ["show"], ["show", "--json"], ["status"], ["status", "--json"]):
        assert call(monkeypatch, *words, str(run)) == 0
        said = capsys.readouterr()
        assert not set(said.out + said.err) & RAW, words
        assert "owned" in said.out or words[0] == "status"


def test_on_a_terminal_colours_and_progress_stay_and_nothing_else(tmp_path):
    """A real terminal: its consoles write through what `safely` puts in front of standard output, a progress bar in between."""
    code = (
        "import sys; from workbench.cli import output; from rich.progress import Progress, TextColumn\n"
        f"evil = {EVIL!r}\n"
        "with output.safely():\n"
        "    with Progress(TextColumn('{task.description}'), console=output.console) as bar:\n"
        "        bar.add_task(evil, total=1); bar.console.print('[green]fine[/] ', evil.replace('[', '\\\\['), highlight=False)\n"
        "    output.console.print('[bold]after[/]'); print(evil); print(evil, file=sys.stderr)\n"
    )
    master, slave = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "CI")}
    environment |= {"TERM": "xterm", "COLUMNS": "300"}
    with subprocess.Popen([sys.executable, "-P", "-c", code], stdout=slave, stderr=slave, env=environment) as process:
        os.close(slave)
        written = b""
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:
                break
            written += part
            if not part:
                break
    os.close(master)
    assert process.returncode == 0, written
    text = written.decode()
    assert "\x1b[32mfine" in text and "\x1b[1mafter" in text
    assert text.count(r"\x1b]0;owned\x07") >= 3
    assert "\x1b]0;" not in text and "\x1b[2J" not in text and not set(STYLE.sub("", text)) & RAW
