"""Does the tamper corpus notice when the verifier stops looking? `make mutation` switches off every check and every rejecting branch, one by one.

    python -m scripts.mutation [--list] [--only WORD]

What is switched off (a *mutant*):

- each numbered check as a whole: it passes whatever it is given;
- each **rejecting branch** in the functions that decide validity, those of `MODULES`. A branch rejects if it raises an error, makes a `Fault`,
  yields what is out of place, names something wrong, gives a ballot a status in which it does not count, or returns False. It is switched off
  by making the condition of the innermost `if` around it false; where an `or` joins conditions (or `not` negates an `and`), each of them is a
  branch of its own. What rejects without an `if` (in a comprehension, a loop or a handler of an exception) is left out of the program;
- each conjunct of a Boolean that a function of type bool returns: it is taken to be true.

What is not switched off is in `OUTSIDE`, function by function with the reason; nothing else is left out. A function that no case enters is not
left out: its branches count as survivors.

How: one run of every case with all branches marked tells which cases take which branch. A mutant is caught if one of these cases no longer
gives the failing checks, the words, the verdict or the totals that tests/tamper says it must. The verifier runs in this process and on the
reference implementation (the native one is held to it by tests/vectors). The last line is `mutation score: K of N, P %`; status 1 unless K = N.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import protocol
import verifier
from protocol import engine
from tests.tamper.dump import HONEST
from tests.tamper.judge import wrong_with
from tests.tamper.recipes import RECIPES, Recipe
from verifier import check

MODULES = [
    f"{package.__name__}.{path.stem}"
    for package in (verifier, protocol)
    for path in sorted(Path(package.__path__[0]).glob("*.py"))
    if path.stem != "__init__"
] + ["chain.sign"]
"""Where validity is decided: all of verifier/ and protocol/, whatever modules they have, and the signatures of chain/sign.py."""

OUTSIDE: dict[str, str] = {
    "verifier.cli": "reads options and files, and judges no record",
    "verifier.archive_cli": "reads options and files, and judges no record",
    "verifier.html": "writes reports",
    "verifier.certify": "reads a report to sign it, and judges no record: tests/tamper/test_on_chain.py",
    "verifier.run:_verify": "guards against a mistake of our own: tests/verifier/test_check.py",
    "verifier.case:Case.not_held": "C02 comes first; for other callers",
    "verifier.watch": "compares heads over time: tests/verifier/test_watch.py",
    "verifier.diff": "compares two logs: tests/verifier/test_diff.py",
    "verifier.node": "reads from a node; what it read is judged by the checks: tests/verifier, tests/tamper/test_on_chain.py",
    "verifier.archive": "reads an archive; what it read is judged by the checks: tests/verifier/test_archive.py",
    "verifier.stored": "reads an archive; what it read is judged by the checks: tests/verifier/test_archive.py",
    "verifier.receipts": "judges a voter's receipt or audited ballot, not a record: tests/verifier/test_receipts.py",
    "verifier.picture": "draws the picture of stations, and judges no record: tests/verifier/test_picture.py",
    "verifier.pictures": "draws and reads QR codes: tests/verifier/test_pictures.py",
    "verifier.sheets": "compares a printed sheet with a record, and judges no record: tests/verifier/test_sheets.py",
    "protocol.sheet": "reads a printed code; no verifier sees one: tests/protocol/test_sheet.py",
    "protocol.receipt": "judges what is given beside a record; a file of promises that prove nothing is WrongInput: tests/protocol/test_receipt.py",
    "protocol.complaints:make": "for who writes a complaint; a reader takes any, and none makes a verdict: tests/protocol/test_complaints.py",
    "protocol.credential": "reads a card; no verifier sees one: tests/protocol/test_credential.py",
    "protocol.merkle": "proofs for receipts and heads: the tree of a record is rebuilt, not proven: tests/protocol/test_merkle.py",
    "protocol.attachments:Bitmap.__contains__: position < self.size": "the verifier asks for positions that the settlement fixes alone; for other callers",
    "protocol.election:settled_records": "for trustees; the verifier has Case.bitmap and Case.not_held: tests/protocol/test_bitmap.py",
    "protocol.counting:count": "the reference to which tests/verifier/test_count.py holds verifier/count.py, which is switched off here",
    "protocol.engine:are_points: IDENTITY": "for the native engine: the reference's is_point refuses the identity itself",
    "protocol.attachments:Roll._name_wrong_row: raise Malformed('roll', 'holds": "in depth: another of its branches has named the row",
    "protocol.attachments:open_rows: hashlib.sha256(data).digest() != attachment.sha256": "C03 has compared the hash; for other callers",
    "protocol.ballot:check_choices": "makes ballots",
    "protocol.ceremony:share_secret": "a trustee's own share",
    "protocol.ceremony:_value: (value['attempt']": "read_message has put the message where it belongs; for trustees",
    "protocol.counting:CountedRow.parse": "reads a board's list; the verifier makes its own",
    "protocol.election:only: raise MissingRecord": "C04 and C05 come first; for other callers",
    "protocol.election:_body": "C02 comes first; for other callers",
    "protocol.election:_file": "C03 comes first; for other callers",
    "protocol.encoding:_check: not isinstance(key, str)": "writes JSON: a parser gives no such key",
    "protocol.encoding:_check: raise Malformed(field, f'{type(value).__name__}": "writes JSON: a parser gives no such value",
    "protocol.group:parse_scalar: len(data) != 32": "a slice of a proof or ballot whose length is known; for files of secrets",
    "protocol.records:Entry.parse": "reads a receipt's entry; the verifier makes a record's itself",
    "protocol.manifest:Manifest.parse: len(roles) >= 65534": "a manifest that long is longer than a record",
    "protocol.tally:verify_partial: d != IDENTITY": "a sum is the identity only where voters know all the others' randomness: tests/protocol/test_tally.py",
    "protocol.tally:verify_partial: proof": "the same",
    "protocol.tally:combine: None in found": "proven ballots and shares give no such total; in depth",
    "protocol.tally:combine: totals[-1] < 0": "proven ballots and shares give no such total; in depth",
}
"""`module`, `module:function` or `module:function: text`, each as the beginning of what `--list` prints without the line → why it is left out."""

IGNORED_ERRORS = ("NotApplicable", "WrongInput", "ValueError", "TypeError", "NotImplementedError", "typer.Exit")
"""Raised where nothing is rejected: nothing to check, something beside the record that cannot be used, a mistake in our own program."""

LISTS = ("faults", "wrong", "refused", "missing", "void", "wrong_bodies")
"""What functions call the lists of what they reject."""


@dataclass(frozen=True)
class Mutant:
    """One thing to switch off. `function` is the outermost function or method, whose code is replaced; `number` counts branches in its module."""

    module: str
    function: str
    number: int
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.function}: {self.text}"


# ---------------------------------------------------------------- finding and changing branches


class Branches(ast.NodeTransformer):
    """Visits the rejecting branches of a module in a fixed order and gives each a number.

    With `off` None each one found is marked with a call of `_taken(number, …)`; else the one of that number is switched off.
    """

    def __init__(self, off: int | None) -> None:
        self.off, self.found = off, []  # type: tuple[int | None, list[tuple[str, int, str]]]
        self.path: list[str] = []
        self.boolean = False

    # -- numbering

    def branch(self, node: ast.stmt | ast.expr) -> int:
        depth = 2 if self.path[0][0].isupper() else 1  # a method's name has its class before it
        self.found.append((".".join(self.path[:depth]), node.lineno, _source(node)))
        return len(self.found) - 1

    def condition(self, test: ast.expr) -> ast.expr:
        """A condition whose truth rejects, with every disjunct a branch."""
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or):
            test.values = [self.condition(value) for value in test.values]
            return test
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) and isinstance(test.operand, ast.BoolOp):
            if isinstance(test.operand.op, ast.And):
                test.operand = self.truth(test.operand)
                return test
        number = self.branch(test)
        if self.off is None:
            return _call("_taken", number, test)
        return ast.copy_location(ast.Constant(False), test) if number == self.off else test

    def truth(self, value: ast.expr) -> ast.expr:
        """A Boolean whose falsehood rejects, with every conjunct a branch."""
        if isinstance(value, ast.BoolOp) and isinstance(value.op, ast.And):
            value.values = [self.truth(one) for one in value.values]
            return value
        if isinstance(value, ast.Constant):
            return value
        number = self.branch(value)
        if self.off is None:
            return _call("_untrue", number, value)
        return ast.copy_location(ast.Constant(True), value) if number == self.off else value

    def statement(self, node: ast.stmt) -> list[ast.stmt]:
        """A statement that rejects by itself."""
        number = self.branch(node)
        if self.off is None:
            return [ast.copy_location(ast.Expr(_call("_taken", number, ast.Constant(True))), node), node]
        return [ast.copy_location(ast.Pass(), node)] if number == self.off else [node]

    # -- visiting

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._within(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        before, self.boolean = self.boolean, isinstance(node.returns, ast.Name) and node.returns.id == "bool"
        try:
            return self._within(node)
        finally:
            self.boolean = before

    def _within(self, node: Any) -> Any:
        self.path.append(node.name)
        node.body = self._block(node.body)
        self.path.pop()
        return node

    def _block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        for node in body:
            found = self.visit(node)
            out += found if isinstance(found, list) else [found]
        return out

    def visit_If(self, node: ast.If) -> ast.AST:
        if any(_rejects(child) for child in node.body):
            node.test = self.condition(node.test)
            node.body = [child if _rejects(child) else self._one(child) for child in node.body]
        else:
            node.test = self.visit(node.test)
            node.body = self._block(node.body)
        node.orelse = self._block(node.orelse)
        return node

    def _one(self, node: ast.stmt) -> ast.stmt:
        found = self.visit(node)
        assert not isinstance(found, list)
        return found

    def visit_Return(self, node: ast.Return) -> Any:
        if self.path and self.boolean and node.value is not None:
            node.value = self.truth(node.value)
            return node
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> Any:
        return self.statement(node) if self.path and _rejects(node) else node

    def visit_Assign(self, node: ast.Assign) -> Any:
        return self.statement(node) if self.path and _rejects(node) else self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> Any:
        return self.statement(node) if self.path and _rejects(node) else self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp) -> Any:
        if not _makes_fault(node.elt):
            return self.generic_visit(node)
        for generator in node.generators:
            generator.ifs = [self.condition(test) for test in generator.ifs]
        if any(generator.ifs for generator in node.generators):
            return node
        number = self.branch(node)
        if self.off is None:
            node.elt = _call("_valued", number, node.elt)
        elif number == self.off:
            return ast.copy_location(ast.List([], ast.Load()), node)
        return node

    def visit_List(self, node: ast.List) -> Any:
        kept: list[ast.expr] = []
        for element in node.elts:
            if not _makes_fault(element):
                kept.append(self.visit(element))
                continue
            number = self.branch(element)
            if self.off is None:
                kept.append(_call("_valued", number, element))
            elif number != self.off:
                kept.append(element)
        node.elts = kept
        return node


def _call(name: str, number: int, value: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(name, ast.Load()), [ast.Constant(number), value], [])


def _source(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 110 else text[:107] + "..."


def _makes_fault(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Fault"


def _rejects(node: ast.AST) -> bool:
    """Whether a statement rejects by itself."""
    if isinstance(node, ast.Raise):
        error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return error is not None and ast.unparse(error) not in IGNORED_ERRORS
    if isinstance(node, ast.Return):
        return isinstance(node.value, ast.Constant) and node.value.value is False
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Yield):
        return isinstance(node.value.value, ast.Tuple) and any(
            isinstance(e, ast.JoinedStr | ast.Constant) for e in node.value.value.elts
        )
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        call, owner = node.value, node.value.func.value
        if call.func.attr.startswith("_name_wrong_"):  # type: ignore[attr-defined]
            return True
        named = isinstance(owner, ast.Name) and owner.id in LISTS
        return call.func.attr == "append" and (named or any(map(_makes_fault, call.args)))  # type: ignore[attr-defined]
    if isinstance(node, ast.Assign):
        target = node.targets[0].elts[0] if isinstance(node.targets[0], ast.Tuple) else node.targets[0]
        return isinstance(target, ast.Subscript) and ast.unparse(target.value) in ("fate", "status")
    return False


# ---------------------------------------------------------------- putting code into the running program


class Program:
    """A module's functions, whose code can be replaced and put back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.module = importlib.import_module(name)
        self.path = Path(inspect.getsourcefile(self.module) or "")
        self.source = self.path.read_text()
        self.functions = dict(self._functions())

    def _functions(self) -> Iterator[tuple[str, FunctionType]]:
        for owner, prefix in [(self.module, "")] + [
            (value, f"{key}.") for key, value in vars(self.module).items() if isinstance(value, type) and value.__module__ == self.name
        ]:  # fmt: skip
            for key, value in vars(owner).items():
                value = getattr(value, "func", value) if not isinstance(value, property) else value.fget
                value = getattr(value, "__func__", value)
                value = inspect.unwrap(value) if callable(value) else value
                if isinstance(value, FunctionType) and value.__module__ == self.name:
                    yield prefix + key, value

    def branches(self) -> list[Mutant]:
        visitor = Branches(None)
        visitor.visit(ast.parse(self.source))
        return [
            Mutant(self.name, function, number, line, text)
            for number, (function, line, text) in enumerate(visitor.found)
        ]

    def code(self, off: int | None) -> dict[str, CodeType]:
        """Code of every function with one branch switched off, or all marked."""
        tree = Branches(off).visit(ast.parse(self.source))
        compiled = compile(ast.fix_missing_locations(tree), str(self.path), "exec")
        return dict(_codes(compiled))


def _codes(code: CodeType, prefix: str = "") -> Iterator[tuple[str, CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield prefix + constant.co_name, constant
            if not prefix and constant.co_name[:1].isupper():
                yield from _codes(constant, constant.co_name + ".")


# ---------------------------------------------------------------- the corpus


LONGEST = 10.0
"""Seconds of processor time for one case, which takes about 0.3: a parser whose check of a length is off may never end."""


class Endless(BaseException):
    """Not an Exception, which the verifier takes for a failed check."""


def _stop(*_: Any) -> None:
    raise Endless


class Corpus:
    """Every case made once, before anything is switched off, and what the verifier must say of it."""

    def __init__(self, recipes: Sequence[Recipe] = (HONEST, *RECIPES)) -> None:
        self.recipes = recipes
        self.made = [recipe.make() for recipe in self.recipes]

    def right(self, number: int) -> bool:
        """Whether the verifier says of a case what it must say. A crash is not right, nor is a run without an end."""
        signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST)
        try:
            return not wrong_with(self.recipes[number], self.made[number])
        except (Exception, Endless):
            return False
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)


# ---------------------------------------------------------------- the run


def left_out(mutant: Mutant) -> str | None:
    """The place in OUTSIDE that names a branch, None where it is switched off."""
    exact = (mutant.module, f"{mutant.module}:{mutant.function}", f"{mutant.module}:{mutant.function.split('.')[0]}")
    text = f"{mutant.module}:{mutant.function}: {mutant.text}"
    return next((place for place in OUTSIDE if place in exact or (": " in place and text.startswith(place))), None)


def mutants(programs: dict[str, Program]) -> list[Mutant]:
    return [mutant for program in programs.values() for mutant in program.branches()]


def taken_by(programs: dict[str, Program], corpus: Corpus) -> dict[tuple[str, int], list[int]]:
    """(module, branch) → the cases in which it is taken."""
    found: dict[tuple[str, int], set[int]] = defaultdict(set)
    case = 0

    def mark(module: str, wanted: Callable[[Any], bool]) -> Callable[[int, Any], Any]:
        def marked(number: int, value: Any) -> Any:
            if wanted(value):
                found[module, number].add(case)
            return value

        return marked

    for program in programs.values():
        vars(program.module).update(
            _taken=mark(program.name, bool), _untrue=mark(program.name, lambda v: not v), _valued=mark(program.name, lambda v: True)
        )  # fmt: skip
    originals = [
        (function, function.__code__) for program in programs.values() for function in program.functions.values()
    ]
    for program in programs.values():
        codes = program.code(None)
        for name, function in program.functions.items():
            if name in codes:
                function.__code__ = codes[name]
    try:
        for case in range(len(corpus.made)):
            if not corpus.right(case):
                raise SystemExit(f"with nothing switched off, the corpus fails: {corpus.recipes[case].title}")
    finally:
        for function, code in originals:
            function.__code__ = code
    return {place: sorted(cases) for place, cases in found.items()}


def caught(mutant: Mutant, program: Program, corpus: Corpus, cases: list[int]) -> int | None:
    """The first of these cases that notices that a branch is switched off."""
    function = program.functions[mutant.function]
    original = function.__code__
    function.__code__ = program.code(mutant.number)[mutant.function]
    try:
        return next((case for case in cases if not corpus.right(case)), None)
    finally:
        function.__code__ = original


def caught_check(id: str, corpus: Corpus) -> int | None:
    """The first case that notices that a whole check is switched off."""
    cases = sorted(range(len(corpus.made)), key=lambda n: corpus.recipes[n].fails != {id})
    original = check.CHECKS[id]
    check.CHECKS[id] = replace(original, decide=lambda case: check.Found([], "switched off"))
    try:
        return next((case for case in cases if id in corpus.recipes[case].fails and not corpus.right(case)), None)
    finally:
        check.CHECKS[id] = original


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="switch off every check and every rejecting branch, and see the tamper corpus notice"
    )
    parser.add_argument(
        "--list", action="store_true", help="print what would be switched off, and what is left out and why"
    )
    parser.add_argument("--only", default="", help="only mutants whose description contains this")
    given = parser.parse_args(arguments)
    programs = {name: Program(name) for name in MODULES}
    every = mutants(programs)
    chosen = [mutant for mutant in every if not left_out(mutant) and given.only in str(mutant)]
    checks = [id for id in check.CHECKS if given.only in id]
    if given.list:
        print("\n".join([*(f"{id} as a whole" for id in checks), *map(str, chosen)]))
        for mutant in every:
            if place := left_out(mutant):
                print(f"left out: {mutant}: {OUTSIDE[place]}")
        return 0
    started = time.monotonic()
    corpus = Corpus()
    signal.signal(signal.SIGVTALRM, _stop)
    engine.native = None  # type: ignore[assignment]  # the reference is what can be switched off
    print(f"{len(corpus.made)} cases made in {time.monotonic() - started:.0f} s", flush=True)
    places = taken_by({name: program for name, program in programs.items() if name not in OUTSIDE}, corpus)
    print(f"{len(places)} branches taken; {time.monotonic() - started:.0f} s", flush=True)
    survivors: list[str] = []
    for id in checks:
        if caught_check(id, corpus) is None:
            survivors.append(f"{id} as a whole")
    for number, mutant in enumerate(chosen):
        cases = places.get((mutant.module, mutant.number), [])
        if caught(mutant, programs[mutant.module], corpus, cases) is None:
            survivors.append(f"{mutant}   [{'noticed by none of ' + str(len(cases)) if cases else 'taken by no case'}]")
        if number % 100 == 99:
            print(f"{number + 1} of {len(chosen)} branches; {time.monotonic() - started:.0f} s", flush=True)
    for survivor in survivors:
        print(f"survived: {survivor}")
    total = len(checks) + len(chosen)
    killed = total - len(survivors)
    print(
        f"{len(every) - sum(not left_out(m) for m in every)} branches are left out, by name and with a reason: --list; {time.monotonic() - started:.0f} s"
    )
    print(f"mutation score: {killed} of {total}, {100 * killed / max(1, total):.1f} %")
    return 0 if killed == total else 1


if __name__ == "__main__":
    sys.exit(main())
