"""The code of the documentation runs, and what the pages say of the code is so."""

import ast
import doctest
import importlib
import re
import textwrap
from itertools import chain
from pathlib import Path

import matplotlib
import pytest
import sklearn
from matplotlib import pyplot
from sklearn.utils.fixes import parse_version

from sklearn_calm import ConvGMMFeatures, __version__

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = {path.stem: path for path in sorted((ROOT / "docs").glob("*.rst"))}
WITH_EXAMPLES = [name for name, path in PAGES.items() if ">>> " in path.read_text("utf-8")]
BLOCK = r"^\.\. code-block:: python\n\n((?: {3}.*\n|\n)+)"
WITH_BLOCKS = [
    name for name, path in PAGES.items() if re.search(BLOCK, path.read_text("utf-8"), re.M)
]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

# What needs a newer scikit-learn than the oldest that will do stands between such comments.
PASSAGE = re.compile(
    r"^\.\. since scikit-learn (\S+)$(.*?)^\.\. end since$", re.MULTILINE | re.DOTALL
)

# A line and, below it, a line of signs that is no shorter.
TITLE = re.compile(r"^(\S.*)\n(?:=+|-+)$", re.MULTILINE)

every_page = pytest.mark.parametrize("page", PAGES)


def read(page):
    return PAGES[page].read_text("utf-8")


def left_out(text):
    """Passages that the installed scikit-learn is too old for."""
    installed = parse_version(sklearn.__version__)
    return [found for found in PASSAGE.finditer(text) if installed < parse_version(found[1])]


class Parser(doctest.DocTestParser):
    """Passes over what the installed scikit-learn is too old for."""

    def parse(self, string, name="<string>"):
        for passage in left_out(string):
            string = string.replace(passage[0], "\n" * passage[0].count("\n"))
        return super().parse(string, name)


def sections(page):
    """Title -> text, down to the next title of any level, with blank lines for what is above it."""
    text = read(page)
    titles = [*TITLE.finditer(text)]
    ends = [*(title.start() for title in titles[1:]), len(text)]
    return {
        title[1]: "\n" * text.count("\n", 0, title.start()) + text[title.start() : end]
        for title, end in zip(titles, ends, strict=True)
    }


def run_examples(text, name, path):
    """Run the examples of a text as a reader would who begins with it."""
    matplotlib.use("Agg")
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    found = runner.run(Parser().get_doctest(text, {}, name, str(path), 0))
    pyplot.close("all")
    return found


SECTIONS = [
    (page, title)
    for page in WITH_EXAMPLES
    for title, text in sections(page).items()
    if ">>> " in text
]


@pytest.mark.parametrize(("page", "title"), SECTIONS)
def test_examples_of_a_section_run_alone(page, title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some of them write files
    text = sections(page)[title]
    found = run_examples(text, title, PAGES[page])
    assert found.failed == 0
    assert found.attempted > 0 or left_out(text)


def test_every_example_is_in_a_section():
    for page in WITH_EXAMPLES:
        assert "".join(sections(page).values()).count(">>> ") == read(page).count(">>> ")


def test_a_section_that_needs_another_fails(capsys):
    """Or the tests above could not."""
    text = "First\n=====\n\n>>> x = 1\n\nSecond\n------\n\n>>> x\n1\n"
    assert run_examples(text, "both", "page").failed == 0
    assert run_examples(text[text.index("Second") :], "Second", "page").failed == 1
    assert "NameError" in capsys.readouterr().out


def test_passages_are_left_out_where_scikit_learn_is_too_old(monkeypatch):
    text = read("user_guide")
    assert text.count(".. since ") == text.count(".. end since") == len(PASSAGE.findall(text)) > 0
    sources = {}
    for version in ("1.6", "99"):
        monkeypatch.setattr(sklearn, "__version__", version)
        sources[version] = "".join(example.source for example in Parser().get_examples(text))
    assert "ProgressBar" not in sources["1.6"]
    assert "ProgressBar" in sources["99"]
    assert len(sources["1.6"]) > 0.8 * len(sources["99"])


@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_blocks_of_python_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some of them write files
    names = {}
    for block in re.findall(BLOCK, read(page), re.MULTILINE):
        exec(compile(textwrap.dedent(block), page, "exec"), names)


def test_the_readme_runs(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.S | re.M)
    exec(compile(code, "README.md", "exec"), {})
    (output,) = re.findall(r"^```text\n(.*?)^```", README.read_text("utf-8"), re.S | re.M)
    printed = [line.split("    ")[0] for line in output.splitlines()]
    assert capsys.readouterr().out.splitlines() == printed


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", README.read_text("utf-8"))
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []


# What may stand for a value in a message.
VALUE = "(.+?)"


def pattern_of(node):
    """A pattern that a string of the code matches once its values are put in, or None."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = [pattern_of(value) or VALUE for value in node.values]
        return "".join(parts) if parts != [VALUE] else None
    return None


def messages_of_the_package():
    """Patterns of all strings in the code that could be messages."""
    for path in (ROOT / "sklearn_calm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            pattern = pattern_of(node)
            if pattern is not None and len(pattern.replace(VALUE, "")) > 20:
                yield pattern


def quoted_messages():
    """Kind and text of each warning and error that the page of answers quotes."""
    block = r"^\.\. code-block:: text\n   :class: message\n\n((?: {3}.*\n)+)"
    found = re.findall(block, read("answers"), re.MULTILINE)
    return [" ".join(message.split()).split(": ", 1) for message in found]


def test_quoted_messages_are_those_of_the_package():
    patterns = [*messages_of_the_package()]
    quoted = quoted_messages()
    assert len(quoted) > 20
    for kind, message in quoted:
        assert re.fullmatch(r"\w+(Error|Warning)", kind)
        assert any(re.fullmatch(pattern, message) for pattern in patterns), message


def test_a_message_in_other_words_is_not_found():
    """Or the test above could not fail."""
    (message,) = (text for _, text in quoted_messages() if text.startswith("EM did not converge"))
    patterns = [*messages_of_the_package()]
    for changed in (message.replace("Increase", "Raise"), message[:-1], f"{message} Or not."):
        assert not any(re.fullmatch(pattern, changed) for pattern in patterns)


def test_pages_have_examples():
    assert {"answers", "user_guide"} <= set(WITH_EXAMPLES)
    assert "onnx" in WITH_BLOCKS


@every_page
def test_links_within_a_page_lead_somewhere(page):
    text = read(page)
    targets = re.findall(r"^\.\. _([\w-]+):$", text, re.MULTILINE)
    assert len(set(targets)) == len(targets)
    assert set(re.findall(r"<([\w-]+)_>`_", text)) <= set(targets)


@every_page
def test_links_to_pages_lead_somewhere(page):
    assert set(re.findall(r":doc:`(?:[^`]*<)?([^`>]+)>?`", read(page))) <= set(PAGES)


@every_page
def test_names_in_the_code_exist(page):
    """``_em.m_step``, ``seeds.MAX_PATCHES`` and the like."""
    for module, name in re.findall(r"``(_[a-z]+(?:_[a-z]+)*)\.(\w+)``", read(page)):
        found = importlib.import_module(f"sklearn_calm.{module}")
        assert hasattr(found, name), f"sklearn_calm.{module} has no {name}"


def cited_equations(text):
    """Numbers of equations in "eq. 4", "eqs. 5 and 38", "eqs. 17 to 20": a range by its ends."""
    cited = re.findall(r"\beqs?\.\s+(\d+(?:(?:,| and| to|, and)\s+\d+)*)", text)
    return {int(number) for numbers in cited for number in re.findall(r"\d+", numbers)}


def test_each_equation_has_a_number_of_its_own_and_what_is_cited_exists():
    numbers = [int(number) for number in re.findall(r"\\tag\{(\d+)\}", read("mathematics"))]
    assert sorted(set(numbers)) == list(range(1, len(numbers) + 1))
    code = [path.read_text("utf-8") for path in (ROOT / "sklearn_calm").rglob("*.py")]
    cited = set.union(*map(cited_equations, [*code, *map(read, PAGES)]))
    assert len(cited) > 30
    assert cited <= set(numbers)


@every_page
def test_targets_of_make_exist(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    named = re.findall(r"^ *make ([\w-]+)(?: +#.*)?$|``make ([\w-]+)``", read(page), re.MULTILINE)
    assert {name for pair in named for name in pair if name} <= set(targets)


@every_page
def test_files_that_pages_name_exist(page):
    """``tests/_reference.py`` and the like."""
    for path in re.findall(r"``((?:docs|tests|sklearn_calm|\.github)/[\w./-]+)``", read(page)):
        assert (ROOT / path).exists(), f"{page} names {path}, which does not exist"


def test_the_guide_speaks_of_every_parameter():
    words = set(re.findall(r"\w+", " ".join(code(read("user_guide")))))
    assert set(ConvGMMFeatures().get_params()) <= words


def test_the_api_page_lists_all_public_names():
    modules = ("", ".datasets", ".onnx", ".plotting")
    public = [importlib.import_module(f"sklearn_calm{module}").__all__ for module in modules]
    listed = re.findall(r"^   (\w+)$", read("api"), re.MULTILINE)
    assert sorted(listed) == sorted({*chain(*public)} - {"__version__"})


def listed_modules():
    """Those in the table of the design page, from top to bottom."""
    return re.findall(r"^``(_[\w.]+)`` {2,}\S", read("design"), re.MULTILINE)


def private_modules():
    """The private modules of the package, each by its dotted name."""
    package = ROOT / "sklearn_calm"
    files = [*package.glob("_[a-z]*.py"), *package.glob("_*/[a-z]*.py")]
    return {".".join(path.relative_to(package).with_suffix("").parts) for path in files}


def imported_modules(module):
    """The private modules of the package that a module imports."""
    path = ROOT / "sklearn_calm" / f"{module.replace('.', '/')}.py"
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name.removeprefix("sklearn_calm.") for name in found if name} & private_modules()


def test_the_design_lists_every_module():
    assert private_modules() == set(listed_modules())


# These are tested through the estimator, of which they are parts, or say nothing but types.
WITHOUT_TESTS = {"_fitting", "_images.source", "_inference", "_parameters"}


def test_every_module_has_a_test_module():
    """``_mixture.em`` that of tests/mixture/test_em.py, and so on."""
    missing = set()
    for module in private_modules():
        *folders, name = [part.removeprefix("_") for part in module.split(".")]
        if not ROOT.joinpath("tests", *folders, f"test_{name}.py").exists():
            missing.add(module)
    assert missing == WITHOUT_TESTS


def test_modules_of_tests_are_short():
    lengths = {path: path.read_text("utf-8").count("\n") for path in (ROOT / "tests").rglob("*.py")}
    assert {path.name: n for path, n in lengths.items() if n >= 500} == {}


def test_imports_go_one_way():
    modules = listed_modules()
    for i, module in enumerate(modules):
        upward = imported_modules(module) - set(modules[i + 1 :])
        assert not upward, f"{module} imports {upward}, which docs/design.rst lists above it"


def test_imports_are_found():
    """What the test above sees, or it could not fail."""
    assert {"_fitting", "_validation"} <= imported_modules("_conv_gmm")
    assert "_convolution.patches" in imported_modules("_convolution.fourier")


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [__version__]


def code(text):
    """What is set as code, in a line or a block."""
    blocks = re.findall(r"^( {3,}\S.*|>>> .*|\.\.\. .*)$", text, re.MULTILINE)
    return re.findall(r"``([^`]+)``", text) + blocks
