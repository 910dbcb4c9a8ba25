"""Functions as commands of Typer, with the global options beside their own.

The function gets an `Options` first; its own parameters follow, annotated for Typer. `context` among
them is Typer's. Help texts end in examples, one at least.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Final, ParamSpec

import typer

from agent_cli.options import Options

if TYPE_CHECKING:
    from agent_cli.result import Result

P = ParamSpec("P")

GLOBAL_OPTIONS: Final[dict[str, tuple[object, object]]] = {
    "json": (Annotated[bool, typer.Option("--json", help="Print one JSON object.")], False),
    "quiet": (Annotated[bool, typer.Option("--quiet", "-q", help="Results and errors only.")], False),
    "verbose": (Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")], False),
    "no_color": (Annotated[bool, typer.Option("--no-color", help="No colours.")], False),
    "config": (
        Annotated[str | None, typer.Option("--config", metavar="FILE", help="Settings file.")],
        None,
    ),
    "home": (
        Annotated[
            str | None,
            typer.Option("--home", metavar="DIR", help="Where everything lies (~/.openswarm, $WWS_HOME)."),
        ],
        None,
    ),
    "node": (
        Annotated[
            str | None, typer.Option("--node", metavar="NAME", help="Which node of this machine ($WWS_NODE).")
        ],
        None,
    ),
}
"""Member of `Options` → its annotation for Typer, and its default."""


def command(
    app: typer.Typer,
    function: Callable[Concatenate[Options, P], Result],
    *,
    examples: tuple[str, ...],
    name: str | None = None,
) -> None:
    """Register the function as a command of the app: global options added, examples put into its help."""
    app.command(name or function.__name__)(_with_global_options(function, examples))


def group(
    app: typer.Typer,
    function: Callable[Concatenate[Options, P], Result | None],
    *,
    examples: tuple[str, ...],
) -> None:
    """Register the function as what a group of commands does by itself."""
    app.callback(invoke_without_command=True)(_with_global_options(function, examples))


def make_app(*, add_completion: bool = False) -> typer.Typer:
    """An app as all ours are: plain help (it starts twice as fast), errors left to `app.main`."""
    return typer.Typer(
        rich_markup_mode=None,
        add_completion=add_completion,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110},
    )


def _with_global_options(
    function: Callable[Concatenate[Options, P], object], examples: tuple[str, ...]
) -> Callable[..., object]:
    """The function as Typer wants to see it: its own parameters, and the global ones behind them."""
    signature = inspect.signature(function, eval_str=True)
    own = [
        parameter for name, parameter in signature.parameters.items() if name not in ("options", "context")
    ]
    takes_context = "context" in signature.parameters
    call: Callable[..., object] = function  # Typer gives it what its signature asks for

    def run(context: typer.Context, **values: Any) -> object:  # noqa: ANN401 - whatever Typer has parsed
        options = _merge(context, values)
        if takes_context:
            values["context"] = context
        return call(options, **values)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("context", keyword, annotation=typer.Context),
        *(parameter.replace(kind=keyword) for parameter in own),
        *(
            inspect.Parameter(f"global_{member}", keyword, annotation=annotation, default=default)
            for member, (annotation, default) in GLOBAL_OPTIONS.items()
        ),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by inspect
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__ = function.__name__
    run.__doc__ = _help(inspect.getdoc(function) or "", examples)
    return run


def _merge(context: typer.Context, values: dict[str, Any]) -> Options:
    """Take the global options out of what was parsed, and put them into the one record of this run."""
    options = context.find_root().obj
    assert isinstance(options, Options)
    for member in GLOBAL_OPTIONS:
        value = values.pop(f"global_{member}")
        if value:
            setattr(options, member, value)
    return options


def _help(text: str, examples: tuple[str, ...]) -> str:
    """The help text, with the examples as lines that keep their shape."""
    if not examples:
        return text
    title = "Example:" if len(examples) == 1 else "Examples:"
    return f"{text}\n\n\b\n{title}\n" + "\n".join(f"  {example}" for example in examples)
