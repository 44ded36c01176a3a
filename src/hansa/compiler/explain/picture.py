"""The picture of an explanation: time runs down, the server is on the left and the clients are on the right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hansa.compiler.explain.arrows import Arrow, arrows_down, arrows_up, few
from hansa.compiler.explain.canvas import Canvas, Font
from hansa.compiler.explain.facts import AtClients, AtServer, Bytes, Held, Operation, down
from hansa.compiler.explain.flops import Flops
from hansa.compiler.explain.stages import is_local
from hansa.compiler.explain.text import headline
from hansa.compiler.program import Program
from hansa.types import CLIENTS, FederatedType, StructType, TensorType, Type, is_federated
from hansa.types.queries import tensor_sizes

_WIDTH = 800
_MARGIN = 20
_BOX = 284
_PADDING = 14
_LABEL = 66
_SERVER = 110
"""Where the server's line is."""
_DEVICES = (632, 646, 660)
"""Where the clients' lines are; there are three in the picture, for any number."""
_FORK = 600
_CLIENTS = _WIDTH - _MARGIN - 8 - _BOX
_ROW = 48
_ROWS = 8
"""Entries with the same label in a box."""

_TITLE, _HEAD, _CODE = Font(17, bold=True), Font(13, bold=True), Font(12, mono=True)
_SMALL, _TINY, _NOTE = Font(11.5), Font(11, mono=True), Font(12)

_COLOURS = {
    "paper": ("fill", "#ffffff", "#0d1117"),
    "ink": ("fill", "#1f2328", "#e6edf3"),
    "soft": ("fill", "#59636e", "#9aa4af"),
    "safe": ("fill", "#1a7f37", "#4ac26b"),
    "blue": ("fill", "#2a62b0", "#79b0f2"),
    "rust": ("fill", "#a8591a", "#e6a25a"),
    "server": ("fill", "#eaf1fb", "#14253d"),
    "client": ("fill", "#fdf2e6", "#33220f"),
    "band": ("fill", "#f3f5f7", "#161c24"),
    "server-edge": ("stroke", "#5a86c5", "#5b8fd9"),
    "client-edge": ("stroke", "#cf8d42", "#d0903f"),
    "safe-edge": ("stroke", "#1a7f37", "#4ac26b"),
    "band-edge": ("stroke", "#d0d7de", "#30363d"),
    "life": ("stroke", "#b9c2cc", "#454d57"),
    "down": ("stroke", "#2a62b0", "#79b0f2"),
    "up": ("stroke", "#a8591a", "#e6a25a"),
    "up-safe": ("stroke", "#1a7f37", "#4ac26b"),
}
"""For each class what it colours, in light and in dark surroundings."""

_NAME = "hansa-explain"


def _style() -> str:
    def rules(shade: int) -> str:
        return "".join(f".{_NAME} .{name}{{{what[0]}:{what[shade]}}}\n" for name, what in _COLOURS.items())

    sans = "system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,'DejaVu Sans',sans-serif"
    mono = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
    return (
        f".{_NAME}{{font-family:{sans}}}\n"
        f".{_NAME} .mono{{font-family:{mono};white-space:pre}}\n"
        f".{_NAME} .bold{{font-weight:600}}\n"
        f".{_NAME} .line{{fill:none;stroke-width:1.6}}\n"
        f".{_NAME} .life{{fill:none;stroke-dasharray:2 4}}\n"
        f".{_NAME} .shackle{{fill:none;stroke-width:1.4}}\n"
        f"{rules(1)}@media (prefers-color-scheme:dark){{\n{rules(2)}}}\n"
    )


def picture_of(
    program: Program, stages: Sequence[AtServer | AtClients], privacy: Sequence[tuple[str, str, str]] = ()
) -> str:
    """An SVG document 800 pixels wide, with lines about privacy under all else."""
    return _Picture(program, stages, privacy).svg()


@dataclass(frozen=True)
class _Line:
    """A line of text in a box: its label, if it begins a row, and what is cut in it."""

    label: str
    text: str
    font: Font
    style: str
    full: str = ""


class _Picture:
    def __init__(
        self, program: Program, stages: Sequence[AtServer | AtClients], privacy: Sequence[tuple[str, str, str]]
    ) -> None:
        self.program, self.stages, self.privacy = program, stages, privacy
        self.clients = [stage for stage in stages if isinstance(stage, AtClients)]
        self.boxes, self.arrows = Canvas(), Canvas()
        self.y = 0.0
        self.step = 0

    def svg(self) -> str:
        self._header()
        top = self.y
        last = len(self.stages) - 1
        for i, stage in enumerate(self.stages):
            if isinstance(stage, AtClients):
                asked = [report for report in stage.reports if report.into == "select"]
                self._exchange(arrows_up(asked), self._up)
                self._exchange(arrows_down(stage.receives), self._down)
                self._client_box(stage)
                self._exchange(arrows_up([report for report in stage.reports if report not in asked]), self._up)
            else:
                self._server_box(stage, i == last)
        bottom = self.y
        self._footer()
        height = self.y + _MARGIN
        page = Canvas()
        page.box(0.5, 0.5, _WIDTH - 1, height - 1, "paper band-edge", 10)
        if self.clients:
            for x in (_SERVER, *_DEVICES):
                page.line([(x, top), (x, bottom - 8)], "life")
        page.parts += self.boxes.parts + self.arrows.parts
        title = headline(self.program, self.stages)
        about = "Server and clients in turn, with what each computes and what goes between them."
        return page.document(_WIDTH, height, _NAME, _style(), title, about)

    def _header(self) -> None:
        title, _, rest = headline(self.program, self.stages).partition(": ")
        width = _WIDTH - 2 * _MARGIN
        self.boxes.text(_MARGIN, 34, _TITLE.cut(title, width), _TITLE, "ink", full=title)
        self.boxes.text(_MARGIN, 54, _NOTE.cut(rest, width), _NOTE, "soft", full=rest)
        if not self.clients:
            self.y = 72
            return
        _rack(self.boxes, _MARGIN, 76)
        self.boxes.text(_MARGIN + 28, 92, "The server", _HEAD, "blue")
        for i, draw in enumerate((_phone, _laptop, _phone)):
            draw(self.boxes, _CLIENTS + (0, 17, 46)[i], 76)
        self.boxes.text(_CLIENTS + 68, 88, "The clients", _HEAD, "rust")
        self.boxes.text(_CLIENTS + 68, 103, "any number, each with its own data", _SMALL, "soft")
        self.boxes.text(_WIDTH / 2, 92, "time runs down ↓", _SMALL, "soft", "middle")
        self.y = 116

    def _server_box(self, stage: AtServer, last: bool) -> None:
        width = _BOX if self.clients else _WIDTH - 2 * _MARGIN
        lines = self._rows("passes on", [self._held(held, width) for held in stage.passes])
        lines += self._rows("computes", self._operations(stage.computes, width))
        if last:
            lines += self._rows("returns", [self._held(held, width) for held in self._results(at_clients=False)])
        title = "One place" if is_local(self.program) else "The server"
        if lines:
            self._box(_MARGIN, width, title, "server", "blue", lines)
        at_clients = self._results(at_clients=True) if last else []
        if at_clients:
            x, width = (_CLIENTS, _BOX) if self.clients else (_MARGIN, width - 8)
            lines = self._rows("returns", [self._held(held, width) for held in at_clients])
            self._box(x, width, "Each client", "client", "rust", lines)

    def _results(self, at_clients: bool) -> list[Held]:
        return [held for held, there in _results(self.program.signature.result) if there is at_clients]

    def _client_box(self, stage: AtClients) -> None:
        lines = self._rows("has", [self._held(held, _BOX) for held in stage.has])
        lines += self._rows("computes", self._operations(stage.computes, _BOX))
        lines += self._rows("keeps", [self._held(held, _BOX) for held in stage.keeps])
        self._box(_CLIENTS, _BOX, "Each client, by itself", "client", "rust", lines)

    def _box(self, x: float, width: float, title: str, style: str, ink: str, lines: list[_Line]) -> None:
        self.step += 1
        height = 34 + sum(map(_height, lines)) + (8 if lines else 0)
        for shift in (8, 4) if style == "client" else ():
            self.boxes.box(x + shift, self.y + shift, width, height, f"{style} {style}-edge")
        self.boxes.box(x, self.y, width, height, f"{style} {style}-edge")
        self.boxes.text(x + _PADDING, self.y + 22, f"{self.step}  {title}", _HEAD, ink)
        y = self.y + 34
        for line in lines:
            y += _height(line)
            if line.label:
                self.boxes.text(x + _PADDING, y - 4, line.label, _SMALL, "soft")
            self.boxes.text(x + _PADDING + _LABEL, y - 4, line.text, line.font, line.style, full=line.full)
        self.y += height + 22

    @staticmethod
    def _rows(label: str, entries: list[list[_Line]]) -> list[_Line]:
        rows = [line for entry in entries[: few(entries, _ROWS)] for line in entry]
        rest = entries[few(entries, _ROWS) :]
        if rest:
            rows.append(_Line("", f"and {len(rest)} more", _SMALL, "soft", "\n".join(entry[0].full for entry in rest)))
        return [replace(row, label=label) for row in rows[:1]] + rows[1:]

    @staticmethod
    def _held(held: Held, width: float) -> list[_Line]:
        room, text = width - _LABEL - 2 * _PADDING, f"{held.name}: {held.type}" if held.name else held.type.compact()
        name = _CODE.cut(held.name, room)
        if not held.name or _CODE.width(text) <= room:
            return [_Line("", _CODE.cut(text, room), _CODE, "ink", text)]
        kind = _short(held.type, _TINY, room)
        return [_Line("", name, _CODE, "ink", text), _Line("", kind, _TINY, "soft", held.type.compact())]

    @staticmethod
    def _operations(operations: Sequence[Operation], width: float) -> list[list[_Line]]:
        """The lines of each operation; those that look alike are put together."""
        alike: dict[tuple[str, str], list[Operation]] = {}
        for operation in operations:
            alike.setdefault((operation.name, str(operation.flops)), []).append(operation)
        return [_Picture._operation(same[0], len(same), width) for same in alike.values()]

    @staticmethod
    def _operation(operation: Operation, times: int, width: float) -> list[_Line]:
        room = width - _LABEL - 2 * _PADDING
        full = f"{operation.name}: {operation.type}"
        name = operation.name if times == 1 else f"{times} × {operation.name}"
        lines = [_Line("", text, _CODE, "ink", full) for text in _CODE.wrap(name, room, 2)]
        if operation.parts:
            text = " → ".join(operation.parts)
            lines += [_Line("", part, _SMALL, "ink", text) for part in _SMALL.wrap(text, room, 3)]
        if operation.flops:
            text = str(operation.flops)
            lines += [_Line("", part, _SMALL, "soft", text) for part in _flop_lines(operation.flops, room)]
        return lines

    def _exchange(
        self,
        arrows: list[Arrow],
        draw: Callable[[Arrow], None],
    ) -> None:
        for arrow in arrows:
            draw(arrow)
            self.y += _ROW
        self.y += 4 if arrows else 0

    def _down(self, arrow: Arrow) -> None:
        y = self.y + 16
        self.arrows.line([(_SERVER, y), (_FORK, y)], "line down")
        for i, x in enumerate(_DEVICES):
            end = y + (i - 1) * 8
            self.arrows.line([(_FORK, y), (_FORK + 12, end), (x - 5, end)], "line down")
            self.arrows.head(x, end, "blue")
        self._labels(arrow, y, _SERVER + 12, _FORK - 8)

    def _up(self, arrow: Arrow) -> None:
        y = self.y + 16
        line, ink = ("line up-safe", "safe") if arrow.protected else ("line up", "rust")
        width = _CODE.width(arrow.into) + 16 + (14 if arrow.protected else 0)
        left = _FORK - width
        for i, x in enumerate(_DEVICES):
            start = y + (i - 1) * 8
            if arrow.apart:
                bend = left - 10
                self.arrows.line([(x, start), (_FORK, start), (left, start), (bend, y)], line)
            else:
                self.arrows.line([(x, start), (_FORK + 12, start), (_FORK, y)], line)
        self.arrows.line([(left - 10 if arrow.apart else left, y), (_SERVER + 5, y)], line)
        self.arrows.head(_SERVER, y, ink, -7)
        self.arrows.box(left, y - 11, width, 22, f"paper {'safe-edge' if arrow.protected else 'client-edge'}", 11)
        middle = left + width / 2
        if arrow.protected:
            self.arrows.lock(left + 8, y - 6, "safe")
            middle += 7
        self.arrows.text(middle, y + 4, arrow.into, _CODE, ink, "middle")
        self._labels(arrow, y, _SERVER + 12, left - 14)

    def _labels(self, arrow: Arrow, y: float, left: float, right: float) -> None:
        """The name and the type over and under the line, on the right the size and who sees it."""
        self.arrows.text(right, y - 6, arrow.size, _SMALL, "ink", "end", arrow.exact)
        room = right - left - _SMALL.width(arrow.size) - 10
        self.arrows.text(left, y - 6, _CODE.cut(arrow.name, room), _CODE, "ink", full=arrow.full)
        note = "safe" if arrow.protected else "soft"
        if arrow.note:
            self.arrows.text(right, y + 16, arrow.note, _SMALL, note, "end")
        room = right - left - (_SMALL.width(arrow.note) + 10 if arrow.note else 0)
        types = [_short(kind, _TINY, room) for kind in arrow.types]
        text = _TINY.cut(" and ".join(types), room)
        self.arrows.text(left, y + 16, text, _TINY, "soft", full=" and ".join(kind.compact() for kind in arrow.types))

    def _footer(self) -> None:
        lines = [*_totals(self.stages, self.clients), *self.privacy]
        width = _WIDTH - 2 * _MARGIN
        height = 18 + 19 * len(lines)
        self.boxes.box(_MARGIN, self.y, width, height, "band band-edge")
        y = self.y + 25
        for label, text, style in lines:
            if style == "safe":
                self.boxes.lock(_MARGIN + _PADDING, y - 10, "safe")
            self.boxes.text(_MARGIN + _PADDING + (14 if style == "safe" else 0), y, label, _NOTE, "ink")
            room = width - 3 * _PADDING - 92
            self.boxes.text(_MARGIN + _PADDING + 106, y, _NOTE.cut(text, room), _NOTE, style, full=text)
            y += 19
        self.y += height


def _height(line: _Line) -> float:
    return 20 if line.font is _CODE else 16


def _short(kind: Type, font: Font, room: float) -> str:
    """A type that fits: whole, or said in words, or cut."""
    text = kind.compact()
    if font.width(text) <= room or isinstance(kind, TensorType):
        return font.cut(text, room)
    if isinstance(kind, StructType):
        count = len(tensor_sizes(kind))
        return font.cut(f"{count} tensor{'' if count == 1 else 's'} {text}", room)
    return font.cut(text, room)


def _flop_lines(flops: Flops, room: float) -> list[str]:
    lines: list[str] = []
    for part in str(flops).split(" + "):
        joined = f"{lines[-1]} + {part}" if lines else part
        if lines and _SMALL.width(joined) > room:
            lines[-1] += " +"
            lines.append(part)
        else:
            lines[-1:] = [joined]
    return [_SMALL.cut(line, room) for line in lines]


def _results(kind: Type, name: str = "") -> list[tuple[Held, bool]]:
    """The parts of a result that are each at one place, and whether that is the clients."""
    if isinstance(kind, StructType) and is_federated(kind):
        named = ((f"{name}.{field or f'#{i}'}".removeprefix("."), part) for i, (field, part) in enumerate(kind.fields))
        return [found for path, part in named for found in _results(part, path)]
    if isinstance(kind, FederatedType):
        return [(Held(name, kind.member), kind.placement is CLIENTS)]
    return [(Held(name, kind), False)]


def _totals(stages: Sequence[AtServer | AtClients], clients: list[AtClients]) -> list[tuple[str, str, str]]:
    """The lines under the picture: a label, a text, and a style."""
    server = Flops.total(stage.flops for stage in stages if isinstance(stage, AtServer))
    if not clients:
        return [("In all", str(server), "ink")]
    up = Bytes.total(stage.bytes_up for stage in clients).short
    reports = [report for stage in clients for report in stage.reports]
    adding = Flops.total(report.flops for report in reports)
    work = Flops.total(stage.flops for stage in clients)
    lines = [
        ("Each client", f"{down(clients, lambda size: size.short)}, {up} up; {work}", "ink"),
        ("The server", f"{server}" + (f", and {adding} to add up each client's reports" if adding else ""), "ink"),
    ]
    if any(report.protected for report in reports):
        lines.append(("Protected", "in a deployment, the server would see only the sum", "safe"))
    if not all(report.protected for report in reports):
        lines.append(("Not protected", "in a deployment, the server would see what each client reports", "soft"))
    if reports:
        lines.append(("Simulated", "here all of it runs in one process, which sees everything", "soft"))
    return lines


def _rack(canvas: Canvas, x: float, y: float) -> None:
    for i in range(2):
        canvas.box(x, y + 12 * i, 20, 10, "server server-edge", 2)
        canvas.box(x + 3, y + 12 * i + 4, 2, 2, "blue", 1)


def _phone(canvas: Canvas, x: float, y: float) -> None:
    canvas.box(x, y, 13, 22, "client client-edge", 2.5)
    canvas.box(x + 5, y + 18, 3, 1.5, "rust", 0.5)


def _laptop(canvas: Canvas, x: float, y: float) -> None:
    canvas.box(x + 3, y + 4, 19, 13, "client client-edge", 2)
    canvas.box(x, y + 19, 25, 3, "rust", 1.5)
