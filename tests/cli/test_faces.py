import io

from rich.console import Console

from codewhale_fleet.cli.faces import Page, state_span


def drawn(page: Page, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), highlight=False, markup=False)
    console.print(page.drawn(width), crop=False)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


def a_page() -> Page:
    page = Page()
    page.line(("title", "bold"), "  and more")
    page.rows([["short", "", "a reason that is long enough to wrap", "#1"], ["x", "", "y", "#22"]],
              prose=2)  # fmt: skip
    return page


def test_on_a_pipe_columns_are_padded_and_nothing_is_wrapped() -> None:
    assert a_page().text() == (
        "title  and more\n"
        "  short  a reason that is long enough to wrap  #1\n"
        "  x      y                                     #22\n"
    )


def test_on_a_terminal_prose_gives_way_and_ids_do_not() -> None:
    assert drawn(a_page(), 36) == [
        "title  and more",
        "  short  a reason that is long   #1",
        "         enough to wrap",
        "  x      y                       #22",
    ]


def test_on_a_terminal_that_is_too_narrow_nothing_is_cut() -> None:
    assert "  short  a reason that is long enough to wrap  #1" in drawn(a_page(), 20)


def test_markup_and_control_characters_in_text_mean_nothing() -> None:
    page = Page()
    page.line("[red]no[/red] \x1b[31m")
    page.rows([["[b]a", "c\nd"]])
    assert page.text() == "[red]no[/red] ?[31m\n  [b]a  c d\n"
    assert drawn(page, 40)[0] == "[red]no[/red] ?[31m"


def test_colour_is_never_the_only_carrier_of_a_state() -> None:
    assert state_span("failed") == ("failed", "red")
    assert state_span("completed", "passed") == ("passed", "green")
    assert state_span("running") == ("running", "")
