"""Documentation that can be held against the code: messages that are quoted, links, and files that are named."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from flows.command.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "decisions").glob("*.md"))]
LINK = re.compile(r"\]\((?P<to>[^)#\s]+)(?:#(?P<part>[^)]+))?\)")
QUOTED = re.compile(r'"([^"]{12,})"')


def texts() -> list[str]:
    """All texts of the program with … for what is filled in, and the Makefile's."""
    found = [(ROOT / "Makefile").read_text(encoding="utf-8")]
    for top in ("flows", "tasks", "olmo_core"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)
                    found.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return found


def test_quoted_messages_are_what_the_program_says() -> None:
    """Between two … of a quotation lies a piece of one message, and the pieces stand in that order."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    said = texts()
    quoted = QUOTED.findall(page)
    assert len(quoted) > 30
    unknown = []
    for one in quoted:
        pieces = [re.escape(piece.strip()) for piece in one.split("…") if piece.strip(" .,:")]
        pattern = re.compile(".*".join(pieces), re.DOTALL)
        if not any(pattern.search(text) for text in said):
            unknown.append(one)
    assert not unknown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Files, and headings within them."""
    wrong = []
    for match in LINK.finditer(page.read_text(encoding="utf-8")):
        if match["to"].startswith(("http:", "https:")):
            continue
        target = (page.parent / match["to"]).resolve()
        headings = (
            re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            if target.suffix == ".md" and target.is_file()
            else []
        )
        known = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        if not target.exists() or (match["part"] and match["part"] not in known):
            wrong.append(match[0])
    assert not wrong


def test_the_index_has_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {name for name in pages if f"({name})" not in index} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    """`olmo WORD` in a page is a command, and a file or folder of the project that it names is there."""
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|[`$] ?|^    )olmo ([a-z]+)\b", text, re.MULTILINE))
    assert named <= set(COMMANDS) | {"help"}, named - set(COMMANDS)
    paths = re.findall(r"`((?:flows|tasks|olmo_core|tests|deployments)/[\w./-]+)`", text)
    assert [path for path in paths if not (ROOT / path).exists() and not list((ROOT).glob(f"{path}*"))] == []


def test_the_readme_has_every_command() -> None:
    """In the first column of its table."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Commands\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)
    assert set(COMMANDS) <= set(re.findall(r"`([a-z]+)", " ".join(rows)))


def test_installing_says_what_it_does_before_pip_is_silent() -> None:
    """For minutes; `--dry-run`: nothing is installed."""
    words = ["make", "--dry-run", "--always-make", "install"]
    shown = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    (said,) = [i for i, line in enumerate(shown) if line.startswith("echo ") and "about 3 minutes" in line]
    (pip,) = [i for i, line in enumerate(shown) if "pip install" in line]
    assert said < pip
